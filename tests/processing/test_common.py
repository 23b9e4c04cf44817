"""Transformers' own tests of processors and image processors, on ours."""

import unittest
from unittest import mock

import numpy as np
from PIL import Image
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

from modeling_rrsis import LAVTConfig
from processing_rrsis.image_processing_rrsis import RRSISImageProcessor, RRSISImageProcessorTorchvision
from processing_rrsis.processor_rrsis import RRSISProcessor
from tests.tiny import TINY_SIZE, build_tiny_tokenizer

from ..modeling.transformers_tests import load_common_tests

processing, image_processing = load_common_tests("test_processing_common", "test_image_processing_common")
# Their pictures are on the Hub.
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
processing.MODALITY_INPUT_DATA["images"] = [PICTURE, PICTURE.rotate(180)]
SIZE = {"height": TINY_SIZE, "width": TINY_SIZE}


class RRSISImageProcessingTester(image_processing.ImageProcessingTester):
    """Random images for the image processor, under the names of backends that it is registered with."""

    def __init__(self, parent):
        super().__init__(parent, batch_size=3, max_resolution=100, size=SIZE)

    def _get_image_processing_classes(self):
        return dict(IMAGE_PROCESSOR_MAPPING[LAVTConfig])


class ImageProcessingCommonTest(image_processing.ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = RRSISImageProcessingTester

    def setUp(self):
        super().setUp()
        patch = mock.patch.object(image_processing, "load_test_image", return_value=PICTURE)
        patch.start()
        self.addCleanup(patch.stop)

    def test_every_backend_is_tested(self):
        classes = {"torchvision": RRSISImageProcessorTorchvision, "pil": RRSISImageProcessor}
        assert self.image_processing_classes == classes


class ProcessorCommonTest(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = RRSISProcessor

    @classmethod
    def _setup_image_processor(cls):
        return RRSISImageProcessor(size=SIZE)

    @classmethod
    def _setup_tokenizer(cls):
        return build_tiny_tokenizer()


class ProcessorByTorchvisionCommonTest(ProcessorCommonTest):
    @classmethod
    def _setup_image_processor(cls):
        return RRSISImageProcessorTorchvision(size=SIZE)


class ProcessorWithOptionsCommonTest(ProcessorCommonTest):
    """With options of its own, which the tests then look for in what is saved."""

    @staticmethod
    def prepare_processor_dict():
        return {"categories": ["ship", "dam"], "alignment": "word", "max_length": 20}
