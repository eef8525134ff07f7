import re
from pathlib import Path

import pytest

from cli.options.run_config import build_config
from cli.options.settings import Settings, load_settings
from cli.options.store import store_config
from k8s.values import with_dotted
from tsp.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_later_sources_win_key_by_key(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "TSPCTL_QUEUE": "from-environment", "OTHER": "x"}
    write(tmp_path / ".config/tspctl/config.toml", 'queue = "from-home"\nimage = "from-home"\nstore = "s3://home/x"')
    write(tmp_path / "here" / "tspctl.toml", 'queue = "from-folder"\nimage = "from-folder"\npath-style = false')
    settings = load_settings(environment, tmp_path / "here")
    assert (settings.queue, settings.image, settings.store) == ("from-environment", "from-folder", "s3://home/x")
    assert (settings.path_style, settings.backend) == (False, "kubernetes")


def test_xdg_config_home_is_honoured(tmp_path: Path) -> None:
    write(tmp_path / "xdg/tspctl/config.toml", "gpus = 8")
    assert load_settings({"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, tmp_path).gpus == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strore = 's3://a/b'", ["tspctl.toml", "'strore'", "store"]),
        ("gpus = 'eight'", ["tspctl.toml", "gpus", "int"]),
        ("gpus = true", ["tspctl.toml", "gpus", "int"]),
        ("backend = 'slurm'", ["tspctl.toml", "backend", "kubernetes, local"]),
        ("set = 3", ["tspctl.toml", "set", "a mapping"]),
        ("gpus = ", ["tspctl.toml", "TOML"]),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, text: str, words: list[str]) -> None:
    write(tmp_path / "tspctl.toml", text)
    with pytest.raises(ConfigError) as error:
        load_settings({"HOME": str(tmp_path)}, tmp_path)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("variable", "text"), [("TSPCTL_STRORE", "x"), ("TSPCTL_GPUS", "many"), ("TSPCTL_PATH_STYLE", "perhaps")]
)
def test_a_bad_variable_is_named(tmp_path: Path, variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"environment variable {variable}"):
        load_settings({"HOME": str(tmp_path), variable: text}, tmp_path)


def test_every_kind_of_setting_can_come_from_the_environment(tmp_path: Path) -> None:
    environment = {"HOME": "/none", "TSPCTL_GPUS": "4", "TSPCTL_PATH_STYLE": "false", "TSPCTL_WORKERS": "0"}
    assert load_settings(environment, tmp_path) == Settings(gpus=4, path_style=False, workers=0)


def test_the_scripts_cache_folder_is_no_setting_and_no_mistake(tmp_path: Path) -> None:
    """Who exports it for ``make e2e`` can still use tspctl; as a setting in a file it is unknown."""
    assert load_settings({"HOME": str(tmp_path), "TSPCTL_CACHE": "/big/disk"}, tmp_path) == Settings()
    write(tmp_path / "tspctl.toml", 'cache = "/big/disk"')
    with pytest.raises(ConfigError, match="unknown setting 'cache'"):
        load_settings({"HOME": str(tmp_path)}, tmp_path)


@pytest.mark.parametrize(
    "variable",
    [
        "TSPCTL_DEMO_MASTER_0_SERVICE_HOST",
        "TSPCTL_DEMO_MASTER_0_SERVICE_PORT",
        "TSPCTL_DEMO_MASTER_0_SERVICE_PORT_PYTORCHJOB_PORT",
        "TSPCTL_DEMO_MASTER_0_PORT",
        "TSPCTL_DEMO_MASTER_0_PORT_23456_TCP",
        "TSPCTL_DEMO_MASTER_0_PORT_23456_TCP_PROTO",
        "TSPCTL_DEMO_MASTER_0_PORT_23456_UDP_ADDR",
    ],
)
def test_what_kubernetes_says_of_a_service_is_no_setting(tmp_path: Path, variable: str) -> None:
    """A pod in a namespace with a service called tspctl-demo-master-0 has these."""
    assert load_settings({"HOME": str(tmp_path), variable: "tcp://10.0.0.1:23456"}, tmp_path) == Settings()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "tspctl.toml").write_bytes('queue = "é"\n'.encode(encoding))
    assert load_settings({"HOME": str(tmp_path)}, tmp_path).queue == "é"


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "tspctl.toml").write_bytes('queue = "é"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"the settings file .*tspctl\.toml is not UTF-8"):
        load_settings({"HOME": str(tmp_path)}, tmp_path)


def test_a_label_that_would_be_cut_at_its_dots_is_refused_with_both_spellings(tmp_path: Path) -> None:
    write(tmp_path / "tspctl.toml", '[chart_values]\n"nodeSelector.nvidia.com/gpu.product" = "A100"')
    with pytest.raises(ConfigError) as error:
        load_settings({"HOME": str(tmp_path)}, tmp_path)
    message = str(error.value)
    for spelling in (r"'nodeSelector.nvidia\.com/gpu\.product'", "[chart_values.nodeSelector]"):
        assert spelling in message
    for text in (
        "[chart_values]\n'nodeSelector.nvidia\\.com/gpu\\.product' = \"A100\"",
        '[chart_values.nodeSelector]\n"nvidia.com/gpu.product" = "A100"',
    ):
        write(tmp_path / "tspctl.toml", text)
        settings = load_settings({"HOME": str(tmp_path)}, tmp_path)
        merged = with_dotted({"nodeSelector": {"zone": "a"}}, settings.chart_values)
        assert merged["nodeSelector"]["nvidia.com/gpu.product"] == "A100"


@pytest.mark.parametrize(
    "text",
    ['[set]\n"optim.weight_decay" = 0.25', "[set]\noptim.weight_decay = 0.25", "[set.optim]\nweight_decay = 0.25"],
)
def test_every_spelling_of_a_dotted_key_in_toml_keeps_the_recipes_other_values(tmp_path: Path, text: str) -> None:
    """Without quotes TOML nests: the default replaced this recipe's learning rate, a tenth of it."""
    write(tmp_path / "tspctl.toml", text)
    settings = load_settings({"HOME": str(tmp_path)}, tmp_path)
    given = {"dataset": "thumos14", "method": "tac", "data_root": "/d", "gpus": 1, "heads": None, "gvf": None}
    config = build_config(settings, "x", {**given, "assignments": ()}, needs_store=False)
    assert (config.optim.weight_decay, config.optim.backbone_lr) == (0.25, 1e-5)


@pytest.mark.parametrize(
    "text", ['[chart_values]\n"store.existingSecret" = "a"', '[chart_values]\nstore.existingSecret = "a"']
)
def test_every_spelling_of_a_chart_value_keeps_the_others(tmp_path: Path, text: str) -> None:
    write(tmp_path / "tspctl.toml", text)
    settings = load_settings({"HOME": str(tmp_path)}, tmp_path)
    merged = with_dotted({"store": {"uri": "s3://b/p"}}, settings.chart_values)
    assert merged == {"store": {"uri": "s3://b/p", "existingSecret": "a"}}


def test_tables_of_two_files_are_merged_key_by_key(tmp_path: Path) -> None:
    write(tmp_path / ".config/tspctl/config.toml", '[chart_values]\na = "home"\nb = "home"\n[datasets]\nx = "/home"')
    write(tmp_path / "tspctl.toml", '[chart_values]\nb = "here"\nc = "here"')
    settings = load_settings({"HOME": str(tmp_path)}, tmp_path)
    assert settings.chart_values == {"a": "home", "b": "here", "c": "here"}
    assert settings.datasets == {"x": "/home"}


@pytest.mark.parametrize("uri", ["s3:/b/p", "s3:b/p", "S3:/b"])
def test_an_address_whose_slashes_were_lost_is_no_folder(uri: str) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        store_config(Settings(store=uri))


def test_a_folder_may_have_a_colon(tmp_path: Path) -> None:
    assert store_config(Settings(store=str(tmp_path / "a:b"))).uri == str(tmp_path / "a:b")


@pytest.mark.parametrize("document", ["README.md", "cli/README.md"])
def test_settings_files_in_the_documents_are_accepted(document: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        write(tmp_path / "tspctl.toml", block)
        assert load_settings({}, tmp_path) != load_settings({}, tmp_path / "empty")
