"""Images of gigabytes are forgotten in time, and a disk that is too small is said before the work."""

import shutil
import subprocess
import sys

import pytest

from tests.e2e.places import BRING_UP

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bring-up is for Linux")

HEAD = f"""
set -euo pipefail
shopt -s inherit_errexit
source {BRING_UP}/lib/settings.sh
source {BRING_UP}/lib/space.sh
source {BRING_UP}/lib/images.sh
"""


def shell(script, *, env=None):
    """A script with the functions of the bring-up."""
    return subprocess.run(["bash", "-c", HEAD + script], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize(("free_mib", "enough"), [(22 * 1024, True), (22 * 1024 - 1, False)])
def test_a_disk_that_is_too_small_is_said_in_one_line(tmp_path, free_mib, enough):
    df = f"df() {{ printf ' Avail\\n%dM\\n' {free_mib}; }}"
    done = shell(f"{df}; need_space {tmp_path}/not/yet/there 22 'building the image'; echo went on")
    assert done.stdout == ("went on\n" if enough else "")
    if not enough:
        (line,) = done.stderr.splitlines()
        assert f"error: building the image needs 22 GiB on the disk of {tmp_path}, which has 21 GiB free" in line


@pytest.mark.parametrize(("cached", "kept", "need"), [("", "", 22), ("abc", " abc", 3)])
def test_where_the_dependencies_are_cached_little_room_is_needed_and_other_versions_stay(cached, kept, need):
    stubs = f"""
    buildah_run() {{ [[ $1 == info ]] && echo /srv/storage || printf '%s' '{cached}'; }}
    forget_old_images() {{ echo "$@"; }}
    need_space() {{ echo $1 $2; }}
    """
    done = shell(f"{stubs}\nmake_room label=x")
    assert (done.stdout, done.stderr) == (f"localhost/tspctl{kept}\n/srv/storage {need}\n", "")


def test_what_a_node_lacks_of_an_image_is_summed(tmp_path):
    layers = tmp_path / "overlay-layers" / "layers.json"
    layers.parent.mkdir()
    layers.write_text(
        '[{"diff-digest": "a", "diff-size": 5242880}, {"diff-digest": "b", "diff-size": 7340032}, {"id": "top"}]'
    )
    (tmp_path / "content").write_text("a\n")
    stub = f"buildah_run() {{ [[ $1 == info ]] && echo {tmp_path} || printf 'a\\nb\\n'; }}"
    assert shell(f"{stub}; missing_mib image {tmp_path}/content").stdout == "7\n"


def test_a_node_forgets_other_versions_by_every_name_and_images_without_one():
    listing = """REF TYPE DIGEST SIZE
    localhost/thing:1 x sha256:a 1
    sha256:id-of-1 x sha256:a 1
    localhost/thing:2 x sha256:b 1
    sha256:id-of-2 x sha256:b 1
    localhost/thing-else:1 x sha256:c 1
    sha256:id-of-else x sha256:c 1
    sha256:of-an-earlier-cluster x sha256:d 1"""
    stub = f"""
    ctr_node() {{ if [[ $2 == ls ]]; then echo '{listing}'; else shift 3; printf '%s\\n' "$@" >&2; fi; }}
    """
    done = shell(f"{stub}\nforget_others localhost/thing:2")
    assert sorted(done.stderr.split()) == ["localhost/thing:1", "sha256:id-of-1", "sha256:of-an-earlier-cluster"]
    everything = {"localhost/thing:1", "localhost/thing:2", "sha256:id-of-1", "sha256:id-of-2"}
    done = shell(f"{stub}\nforget_others localhost/thing:3")
    assert everything < set(done.stderr.split())
    assert "else" not in done.stderr


@pytest.mark.e2e
def test_old_versions_of_an_image_go_and_what_the_others_are_made_of_stays(tmp_path):
    if shutil.which("buildah") is None:
        pytest.skip("there is no buildah")
    storage = f"""
    buildah_run() {{
      buildah --log-level error --root {tmp_path}/root --runroot {tmp_path}/run --storage-driver vfs "$@"
    }}
    """
    build = f"""
    cd {tmp_path}; echo base >base
    printf '%s\\n' 'FROM scratch AS first' 'COPY version /' 'FROM scratch' 'COPY base /' 'COPY --from=first version /' \
      >Dockerfile
    for version in 1 2 3 4; do
      echo $version >version
      bud -t localhost/thing:$version . >&2
    done
    bud -t localhost/other:1 . >&2
    """
    done = shell(f"""{storage}{build}
    buildah_run images -q --filter dangling=true | wc -l
    forget_old_images localhost/thing $(images_by_age --filter reference=localhost/thing | head -n 2)
    buildah_run images --format '{{{{.Name}}}}:{{{{.Tag}}}}' | sort
    buildah_run from --name check localhost/thing:3 >/dev/null; cat "$(buildah_run mount check)"/{{base,version}}
    """)
    before, *left = done.stdout.split()
    assert int(before) > 1, done.stderr
    assert left == ["<none>:<none>", "localhost/other:1", "localhost/thing:3", "localhost/thing:4", "base", "3"], (
        done.stderr
    )
