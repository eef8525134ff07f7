"""Initial weights that cannot be had end the run for good; a store that is away does not."""

from dataclasses import replace

import pytest

from tests.config.test_run import make
from tsp.errors import StoreError, StoreUnreachableError, exit_code_of
from tsp.train import training_state


@pytest.mark.parametrize(("uri", "exit_code"), [("default", 5), ("https://host/w.pth", 5), ("s3://bucket/w.pth", 151)])
def test_a_web_that_cannot_be_reached_is_not_tried_in_attempt_after_attempt(uri, exit_code, monkeypatch):
    def unreachable(*_, **__):
        raise StoreUnreachableError("host cannot be reached: give the weights with --pretrained FILE")

    monkeypatch.setattr(training_state, "fetch_object", unreachable)
    config = make()
    config = replace(config, model=replace(config.model, pretrained=uri))
    with pytest.raises(StoreError, match="--pretrained FILE") as caught:
        training_state.load_initial_weights(None, config)
    assert exit_code_of(caught.value) == exit_code
