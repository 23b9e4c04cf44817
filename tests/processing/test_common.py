"""Transformers' own tests of processors and image processors, on ours."""

import unittest

from PIL import Image

import modeling_rrsis  # noqa: F401 - registers the processor and the image processor
from processing_rrsis.image_processing_rrsis import RRSISImageProcessor
from processing_rrsis.processor_rrsis import RRSISProcessor

from ..modeling.transformers_tests import load_common_tests
from .conftest import TINY_SIZE, build_tiny_tokenizer

processing, image_processing = load_common_tests("test_processing_common", "test_image_processing_common")
# Their pictures are on the Hub.
processing.MODALITY_INPUT_DATA["images"] = [Image.new("RGB", (80, 60), colour) for colour in ("navy", "tan")]
SIZE = {"height": TINY_SIZE, "width": TINY_SIZE}


class RRSISImageProcessingTester(image_processing.ImageProcessingTester):
    """Random images for the image processor, which is the same for every backend."""

    def __init__(self, parent):
        super().__init__(parent, batch_size=3, max_resolution=100, size=SIZE)

    def _get_image_processing_classes(self):
        return {"pil": RRSISImageProcessor}


class ImageProcessingCommonTest(image_processing.ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = RRSISImageProcessingTester


class ProcessorCommonTest(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = RRSISProcessor

    @classmethod
    def _setup_image_processor(cls):
        return RRSISImageProcessor(size=SIZE)

    @classmethod
    def _setup_tokenizer(cls):
        return build_tiny_tokenizer()
