"""What is published for which data set."""

import re

import pytest

from tsp.config.published_data import PUBLISHED_DATA, published_files
from tsp.errors import ConfigError


@pytest.mark.parametrize("dataset", PUBLISHED_DATA)
def test_every_published_file_has_a_name_of_its_own_and_a_git_hash(dataset):
    files = published_files(dataset)
    assert len({file.name for file in files}) == len(files) > 0
    assert all(re.fullmatch(r"[0-9a-f]{40}", file.blob_id) for file in files)


def test_a_data_set_without_published_files_is_refused_and_those_that_have_some_are_named():
    with pytest.raises(
        ConfigError, match="nothing is published for the data set 'demo': choose thumos14 or activitynet"
    ):
        published_files("demo")
