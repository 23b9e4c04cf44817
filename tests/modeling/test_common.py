"""Transformers' own tests of models and configurations, on the models."""

import unittest

import torch

from modeling_rrsis import MODELS

from .tiny import TINY, tiny_inputs, tiny_labels
from .transformers_tests import load_common_tests

modeling, configuration = load_common_tests("test_modeling_common", "test_configuration_common")


class ReferringModelTester:
    """A tiny model of one kind and inputs for it, in the form the common tests ask for."""

    def __init__(self, name):
        self.name = name
        self.batch_size = 2
        self.seq_length = 7
        self.is_training = True
        self.num_hidden_layers = TINY["text_config"]["num_hidden_layers"]
        # The hidden states are the maps of four stages, of which the first is 16 high and 16 wide.
        self.expected_num_hidden_layers = 4
        self.encoder_seq_length = self.hidden_size = TINY["image_size"] // 4

    def get_config(self):
        return MODELS[self.name].config_class(**TINY)

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), tiny_inputs(batch_size=self.batch_size, length=self.seq_length)


class CommonTests(modeling.ModelTesterMixin):
    """What they share; `name` is the model's."""

    is_encoder_decoder = False
    test_resize_embeddings = True
    has_attentions = True
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True
    additional_model_inputs = ("input_ids", "attention_mask", "ground_object_mask", "spatial_position_mask")

    def setUp(self):
        self.all_model_classes = (MODELS[self.name],)
        self.model_tester = ReferringModelTester(self.name)
        # What is given is compared with what is saved, which holds every field of the text encoder.
        given = {field: value for field, value in TINY.items() if field != "text_config"}
        self.config_tester = configuration.ConfigTester(
            self, config_class=MODELS[self.name].config_class, has_text_modality=False, **given
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        return {**inputs, "labels": tiny_labels(batch_size=len(inputs["pixel_values"]))} if return_labels else inputs

    def test_attention_outputs(self):
        """One per stage, from its pixels to the words; theirs expects one per layer, from words to words."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = MODELS[self.name]._from_config(config, attn_implementation="eager").eval()
        shapes = [(2, 1, side * side, self.model_tester.seq_length) for side in (16, 8, 4, 2)]
        with torch.no_grad():
            asked = model(**inputs, output_attentions=True, output_hidden_states=True)
            model.config.output_attentions = True
            configured = model(**inputs)
        assert [tuple(weights.shape) for weights in configured.attentions] == shapes
        assert all(torch.equal(*pair) for pair in zip(asked.attentions, configured.attentions, strict=True))
        assert list(asked)[-2:] == ["hidden_states", "attentions"]

    def test_config(self):
        self.config_tester.run_common_tests()


class LAVTCommonTest(CommonTests, unittest.TestCase):
    name = "lavt"


class DANetCommonTest(CommonTests, unittest.TestCase):
    name = "danet"


class FIANetCommonTest(CommonTests, unittest.TestCase):
    name = "fianet"


class RMSINCommonTest(CommonTests, unittest.TestCase):
    name = "rmsin"
