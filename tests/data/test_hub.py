"""Where the files of a variant are looked for, at which commit, and with which library."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers.hub_server import COMMIT, Handler, asked, change

from golf_fast.data import read_shard
from golf_fast.data.fetch import Hub, fetch
from golf_fast.errors import InputError


def test_a_folder_keeps_to_its_commit(hub: Hub, remote: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    Handler.commit = COMMIT
    files = remote.parents[2] / "datasets" / "someone" / "repository" / "resolve"
    for revision in ("main", COMMIT):
        shutil.copytree(remote, files / revision / "datasets")
    named = Hub.from_environment("sp320", hub.root.split("/someone")[0] + "/datasets/{repo}/resolve/main/")
    fetch(named, "sp320", 1, out)
    sources = json.loads((out / "sources.json").read_text())
    assert {entry["commit"] for entry in sources.values()} == {COMMIT}
    assert all(f"/resolve/{COMMIT}/" in entry["url"] for entry in sources.values())
    tokens = change(files / "main" / "datasets", "fineweb_train_000001.bin")
    folder, _ = fetch(named.pinned(out), "sp320", 2, out)
    assert read_shard(folder / "fineweb_train_000001.bin").tolist() != tokens
    assert named.pinned(tmp_path) == named
    (out / "sources.json").write_text(json.dumps({"manifest.json": {"url": "another/manifest.json", "commit": COMMIT}}))
    assert named.pinned(out) == named


def test_a_revision_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MATCHED_FINEWEB_REPO_ID", "MATCHED_FINEWEB_BASE_URL", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert "/parameter-golf/resolve/v1.0/datasets/" in Hub.from_environment("sp1024", revision="v1.0").root
    with pytest.raises(InputError, match=r"revision '\.\./x': it must be the name of a branch or tag, or a commit"):
        Hub.from_environment("sp1024", revision="../x")
    with pytest.raises(InputError, match=r"revision v1: https://files\.example/ has no revisions; leave it out"):
        Hub.from_environment("sp1024", "https://files.example", "v1")


def test_the_hub_s_library_is_used_where_it_is_installed(
    hub: Hub, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []

    class HttpError(Exception):
        pass

    class HfHubHTTPError(HttpError, OSError):
        pass

    class EntryNotFoundError(Exception):
        pass

    def hf_hub_download(**named: object) -> str:
        calls.append(named)
        if len(calls) > 4:
            raise HttpError("busy\nlong story")
        target = Path(str(named["local_dir"])) / str(named["filename"])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(remote.parent / str(named["filename"]), target)
        return str(target)

    library = ModuleType("huggingface_hub")
    library.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    errors = ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError, errors.EntryNotFoundError = HfHubHTTPError, EntryNotFoundError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setattr(Hub, "library", True)
    endpoint = hub.root.split("/someone")[0]
    named = Hub(hub.root, endpoint, "someone/repository", "datasets")
    folder, _ = fetch(named, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / "fineweb_train_000000.bin").size == 899
    assert calls[0]["filename"] == "datasets/manifest.json"
    assert {call["repo_id"] for call in calls} == {"someone/repository"}
    assert {call["endpoint"] for call in calls} == {endpoint}
    change(remote, "fineweb_train_000000.bin")
    with pytest.raises(InputError, match=r"000000\.bin: huggingface_hub could not get it \(busy\)"):
        fetch(named, "sp320", 1, tmp_path / "data")


def test_the_library_itself_brings_what_ours_does(hub: Hub, remote: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    Handler.commit, Handler.linked = COMMIT, True
    endpoint = hub.root.split("/someone")[0]
    served = remote.parents[2] / "datasets" / "someone" / "repository" / "resolve"
    for revision in ("main", COMMIT):
        shutil.copytree(remote, served / revision / "datasets")
    root = f"{endpoint}/datasets/someone/repository/resolve/main/datasets/"
    named = Hub(root, endpoint, "someone/repository", "datasets")
    assert named.library
    out = tmp_path / "data"
    folder, model = fetch(named, "sp320", 2, out)
    for path in (*folder.glob("*.bin"), model):
        assert path.read_bytes() == (remote / path.relative_to(out)).read_bytes()
    assert len(list(folder.glob("*.bin"))) == 3
    Handler.asked.clear()
    fetch(named, "sp320", 2, out)
    assert asked() == []
    (served / COMMIT / "datasets" / "datasets" / "fineweb10B_sp320" / "fineweb_train_000002.bin").unlink()
    with pytest.raises(InputError, match=r"fineweb_train_000002\.bin: the server says 404"):
        fetch(named, "sp320", 3, out)


def test_where_the_files_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPO_ID", "REMOTE_ROOT_PREFIX", "BASE_URL"):
        monkeypatch.delenv(f"MATCHED_FINEWEB_{name}", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    base = "https://huggingface.co/datasets"
    assert Hub.from_environment("sp1024").root == f"{base}/willdepueoai/parameter-golf/resolve/main/datasets/"
    assert Hub.from_environment("sp8192").root == f"{base}/kevclark/parameter-golf/resolve/main/datasets/"
    without_capitals = Hub.from_environment("sp8192_caseops").root
    assert without_capitals == f"{base}/romeerp/parameter-golf-caseops-v1/resolve/main/datasets/"
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", "me/mine")
    monkeypatch.setenv("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", "")
    assert Hub.from_environment("sp1024").root == f"{base}/me/mine/resolve/main/"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/ ")
    assert Hub.from_environment("sp1024").root == "https://mirror.example/datasets/me/mine/resolve/main/"
    commit = "a" * 40
    assert Hub.from_environment("sp1024").at(commit).root.endswith(f"/resolve/{commit}/")
    assert Hub.from_environment("sp1024").at("../x").root.endswith("/resolve/main/")
    with pytest.raises(InputError, match="the base address is file:///etc: not a web address"):
        Hub.from_environment("sp1024", "file:///etc")
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(InputError, match=r"HF_ENDPOINT is mirror\.example: not a web address"):
        Hub.from_environment("sp1024")
