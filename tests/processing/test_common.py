"""Transformers' own tests of processors and image processors, on ours."""

import unittest
from unittest import mock

import pytest
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

    @unittest.skip("A fourth channel is alpha and is dropped: the networks take three.")
    def test_call_numpy_4_channels(self):
        pass

    @unittest.skip("A rule for models inside transformers; Pillow's resize is the published chain, bit for bit.")
    def test_new_models_require_torchvision_backend(self):
        pass


class ProcessorCommonTest(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = RRSISProcessor

    @classmethod
    def setUpClass(cls):
        # Registered for remote code, `save_pretrained` adds the `auto_map`, which the tests then miss in the copy.
        patches = [mock.patch.object(part, "_auto_class", None) for part in (RRSISProcessor, RRSISImageProcessor)]
        for patch in patches:
            patch.start()
            cls.addClassCleanup(patch.stop)
        super().setUpClass()

    @unittest.skip("Asks for a batch in which a sample has no image; every expression needs one.")
    def test_processor_text_has_no_visual(self):
        pass

    @pytest.mark.xfail(reason="`allow_empty_text` defaults to False, the library wants None")
    def test_call_arguments_default_none(self):
        super().test_call_arguments_default_none()

    @pytest.mark.xfail(reason="`max_length` is an argument of the constructor and of the tokenizer's call")
    def test_init_arguments_not_in_processor_kwargs(self):
        super().test_init_arguments_not_in_processor_kwargs()

    @pytest.mark.xfail(reason="`valid_processor_kwargs` does not name RRSISProcessorKwargs")
    def test_valid_processor_kwargs_set(self):
        super().test_valid_processor_kwargs_set()

    @classmethod
    def _setup_image_processor(cls):
        return RRSISImageProcessor(size=SIZE)

    @classmethod
    def _setup_tokenizer(cls):
        return build_tiny_tokenizer()
