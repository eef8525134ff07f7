"""No address that anybody gives carries a secret into what is shown or stored."""

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.options.settings import Settings, load_settings
from tsp.config.address import check_address, check_variable, masked, shown
from tsp.config.job import path_fields
from tsp.config.jobs import JOBS
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import DataConfig, HeadConfig, ModelConfig, RunConfig, SubsetConfig
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError

SECRET = "hunter2hunter2"
WITH_PASSWORD = [
    f"https://me:{SECRET}@host/weights.pth",
    f"https://{SECRET}@host/weights.pth",
    f"HTTPS://me:{SECRET}@host:8443/x",
    f" https://me:{SECRET}@host/x",
    f"https://me:hunter2/{SECRET}@host/x",
    f"https:/me:{SECRET}@host/x",
    f"https:\\\\me:{SECRET}@host/x",
    f"//me:{SECRET}@host/x",
    f"https://me%3A{SECRET}%40host/x",
    f"s3://AKIAKEY:{SECRET}@bucket/key",
    f"http://me:{SECRET}@[::1]:9000/x",
    f"ftp://me:{SECRET}@host/x",
    f"me:{SECRET}@host/x",
]
SIGNED = [
    f"https://host/x?X-Amz-Credential=a&X-Amz-Signature={SECRET}",
    f"https://host/x?AWSAccessKeyId=a&Expires=1&Signature={SECRET}",
    f"https://host/x?sv=2021&sig={SECRET}",
    f"https://host/x?token={SECRET}",
    f"https://host/x?download=1&access_token={SECRET}",
    f"https://host/x?q={SECRET * 4}",
    f"https://host/x#token={SECRET}?token={SECRET}",
]
PLAIN = [
    "/data/me:you/x@2.pth", "videos@2", "a.pth", "~/x", "s3://bucket/a@b/c:d", "https://host:8443/x?download=1",
    "file:///data/a@b:c.pth", "https://host/@scope/x", "http://[::1]:9000", "none", "default",
    "ghcr.io/a/b:tag@sha256:0", "{dataset}", "C:/x",
]  # fmt: skip


@pytest.mark.parametrize("address", WITH_PASSWORD + SIGNED)
def test_an_address_with_a_secret_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ConfigError, match="--pretrained") as caught:
        check_address("--pretrained", address)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "address", "shown_as", "way"),
    [
        ("--pretrained", "https://me:{}@host/x", "https://...", "download the file first"),
        ("--pretrained", "HTTPS://{}@host/x", "https://...", "download the file first"),
        ("--pretrained", "zip://me:{}@host/x", "zip://...", "download the file first"),
        ("--pretrained", "//me:{}@host/x", "...://...", "download the file first"),
        ("--pretrained", "me:{}@host/x", "...://...", "download the file first"),
        ("--data", "s3://me:{}@bucket/x", "s3://...", "AWS_ACCESS_KEY_ID"),
        ("--s3-endpoint", "https://me:{}@host", "https://...", "AWS_ACCESS_KEY_ID"),
        ("--store", "https://me:{}@host", "https://...", "AWS_ACCESS_KEY_ID"),
        ("--data", "https://host/x?token={}", "https://host/x", "download the file first"),
    ],
)
def test_the_refusal_says_what_kind_of_address_it_was_and_how_to_do_without_the_secret(
    what: str, address: str, shown_as: str, way: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_address(what, address.format(SECRET))
    assert str(caught.value).startswith(f"{what} ({shown_as}) contains a ")
    assert way in str(caught.value)


@pytest.mark.parametrize("address", PLAIN)
def test_an_address_without_one_passes(address: str) -> None:
    check_address("--pretrained", address)


@pytest.mark.parametrize("address", SIGNED)
def test_what_is_shown_of_a_signed_address_has_no_query(address: str) -> None:
    check_address("an address that is used at once", address, may_be_signed=True)
    assert SECRET not in shown(address)


@pytest.mark.parametrize("around", ["{}", "cannot reach {}: refused", 'proxy "{}", tried twice', "({})", "proxy={}\n"])
@pytest.mark.parametrize("address", [text for text in WITH_PASSWORD if "/" in text.partition(SECRET)[0]] + SIGNED[:5])
def test_an_address_with_a_secret_is_masked_in_any_text(address: str, around: str) -> None:
    text = masked(around.format(address))
    assert SECRET not in text
    assert "***" in text
    assert masked(text) == text


def test_what_is_masked_keeps_its_name_and_what_stands_around_it() -> None:
    text = f"GET https://host/x?download=1&sig={SECRET}&part=2 by http://me:{SECRET}@proxy:3128: refused"
    assert masked(text) == "GET https://host/x?download=1&sig=***&part=2 by http://***@proxy:3128: refused"


@pytest.mark.parametrize(
    "text", [*PLAIN, "loss=0.5 lr=1e-4", "a.py:100: b@c", "http://127.0.0.1:9000/runs/a@b.pth: gone"]
)
def test_a_text_without_a_secret_is_shown_as_it_is(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "db_password", "AWS_SECRET_ACCESS_KEY", "APIKEY"])
def test_a_variable_that_is_called_like_a_secret_is_refused_without_its_value(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--env {name} looks like a secret") as caught:
        check_variable("--env", name, SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TOKENIZERS_PARALLELISM", "false"), ("GOOGLE_APPLICATION_CREDENTIALS", "/secrets/key.json"), ("HF_TOKEN", "")],
)
def test_other_variables_pass(name: str, value: str) -> None:
    check_variable("--env", name, value)


@given(st.text(alphabet="abc:/@?#[]%\\ .", max_size=30))
def test_the_gate_answers_any_text(text: str) -> None:
    for address in (text, f"https://{text}", f"s3://{text}"):
        shown(address)
        try:
            check_address("it", address)
        except ConfigError:
            continue
        authority = address.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0]
        has_scheme = re.match(r"\s*[a-z][a-z0-9]*://", address)
        assert not has_scheme or "@" not in authority


def _classes() -> list[type[Any]]:
    return [SubsetConfig, DataConfig, HeadConfig, ModelConfig, StoreConfig, RunConfig, *JOBS.values(), Settings]


def _made(cls: type[Any]) -> dict[str, Any]:
    """Valid values for the fields that have no default."""
    hints, values = typing.get_type_hints(cls), {}
    for item in dataclasses.fields(cls):
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            hint = hints[item.name]
            values[item.name] = "x" if hint is str else _of(hint)
    return values


def _of(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return hint(**_made(hint))
    if typing.get_origin(hint) is tuple:
        return (_of(typing.get_args(hint)[0]),)
    return typing.get_args(hint)[0]


@pytest.mark.parametrize("cls", _classes(), ids=lambda cls: cls.__name__)
def test_every_text_of_every_configuration_object_passes_through_the_gate(cls: type[Any]) -> None:
    made = _made(cls)
    hints = typing.get_type_hints(cls)
    texts = [item.name for item in dataclasses.fields(cls) if hints[item.name] in (str, str | None)]
    assert texts or cls.__name__ == "CheckJob"
    for name in texts:
        with pytest.raises(ConfigError) as caught:
            cls(**{**made, name: f"https://me:{SECRET}@host/x"})
        assert SECRET not in str(caught.value), name


def test_a_secret_in_a_setting_that_holds_many_is_refused() -> None:
    for key in ("set", "chart_values", "datasets"):
        with pytest.raises(ConfigError) as caught:
            Settings(**{key: {"a": f"http://me:{SECRET}@proxy:3128"}})
        assert key in str(caught.value)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError):
        load_settings({"TSPCTL_PRETRAINED": WITH_PASSWORD[0], "HOME": "/nowhere"}, Path("/nowhere"))


KINDS = ["gs://b/x", "az://c/x", "hf://team/x", "ftp://h/x", "S3://b/x", "HTTPS://h/x", "hdfs://n/x", "://x"]


def begins(option, address):
    """What is said of such an address."""
    return rf"^{re.escape(option)} \(.*\) begins with {address.partition(':')[0]}://: expected a path"


@pytest.mark.parametrize("address", KINDS)
@pytest.mark.parametrize(
    ("key", "option"),
    [("data.root", "--data"), ("model.pretrained", "--pretrained"), ("resume", "--resume"),
     ("data.cache_dir", "data.cache_dir")],
)  # fmt: skip
def test_an_address_that_nothing_can_read_is_refused_before_a_pod_waits_for_a_gpu(key, option, address):
    with pytest.raises(ConfigError, match=begins(option, address)):
        resolve(load_dataset("thumos14"), "tac", name="r", store={"uri": "s3://b/p"}, root="/data",
                overrides={key: address})  # fmt: skip


@pytest.mark.parametrize("address", KINDS)
def test_no_path_of_a_job_is_of_a_kind_that_nothing_can_read(address):
    for kind in JOBS.values():
        required = {item.name: "/x" for item in dataclasses.fields(kind) if item.default is dataclasses.MISSING}
        for name, item in path_fields(kind).items():
            with pytest.raises(ConfigError, match=begins(item.option, address)):
                kind(**{**required, name: address})
