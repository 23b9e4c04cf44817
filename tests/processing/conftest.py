"""A tokenizer and a processor for the tests of the processing side."""

import pytest

from tests.tiny import build_tiny_processor, build_tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return build_tiny_tokenizer()


@pytest.fixture
def processor():
    return build_tiny_processor()
