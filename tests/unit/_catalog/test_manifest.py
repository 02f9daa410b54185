"""The manifest: it comes back as it was written, its schema describes it, and no bit of it can change unnoticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog import manifest as manifests
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.manifest import Manifest
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ManifestProblem
from tests.support.verifications import forge
from tests.unit.samples import FINGERPRINT, SOURCE, sample_manifest

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "manifest.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
SAMPLES = {
    "content": sample_manifest(),
    "none": sample_manifest(fingerprint=None, change_id=None),
    "counts": sample_manifest(fingerprint=replace(FINGERPRINT, mode="counts", tables={}, sequences={})),
    "dressed": sample_manifest(
        source=replace(
            SOURCE,
            comment="the shop's own",
            connection_limit=17,
            role_settings={"app": ["work_mem=5MB"]},
            grants={"public": [], "gödel": ["CONNECT", "CREATE WITH GRANT OPTION"]},
            login_settings={"": ["app.all=1"], "app": ["TimeZone=Asia/Tokyo"]},
            server_settings={"TimeZone": "Europe/Berlin", "app.tenant": "acme"},
            start_settings={"cron.database_name": "shop"},
            preloaded=["pg_cron"],
            tablespace="fast",
            tablespaces=["slow"],
            is_template=True,
        )
    ),
    "plain": sample_manifest("a\nb", format="plain", compression="none", files={}),
}


@pytest.fixture(name="manifest", params=SAMPLES.values(), ids=SAMPLES.keys())
def _manifest(request: pytest.FixtureRequest) -> Manifest:
    found = request.param
    assert isinstance(found, Manifest)
    return found


def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest) -> None:
    assert manifests.load(manifests.dump(manifest), "x") == manifest


def test_a_manifest_is_text_for_people(manifest: Manifest) -> None:
    data = manifests.dump(manifest)
    assert data.isascii()
    assert data.endswith(b"\n")
    assert data.count(b"\n") > 20


def test_no_flipped_bit_passes() -> None:
    data = bytearray(manifests.dump(sample_manifest()))
    assert b"\\u00f6" in data  # \\u00F6 is the same letter: the text counts as well
    passed = []
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            try:
                manifests.load(bytes(data), "x")
                passed.append((at, bit, bytes(data[max(0, at - 10) : at + 10])))
            except ManifestProblem:
                pass
            data[at] ^= 1 << bit
    assert passed == []
    manifests.load(bytes(data), "x")


def test_no_shorter_or_longer_manifest_passes(manifest: Manifest) -> None:
    data = manifests.dump(manifest)
    for other in (
        *(data[:length] for length in range(len(data))),
        data + b" ",
        data + b"\n",
        b" " + data,
        b"\xef\xbb\xbf" + data,
    ):
        with pytest.raises(ManifestProblem):
            manifests.load(other, "x")


@pytest.mark.parametrize(
    "edit",
    [
        {"database": "other"},
        {"size_bytes": 6},
        {"fingerprint": None},
        {"duration_s": 1.250001},
        {"extra": 1},
        {"schema_version": True},
        {"schema_version": 1.0},
        {"schema_version": 0},
        {"schema_version": "1"},
        {"schema_version": None},
        {"manifest_sha256": "0" * 64},
        {"manifest_sha256": None},
    ],
)
def test_an_edited_manifest_is_refused(edit: dict[str, Any]) -> None:
    document = {**json.loads(manifests.dump(sample_manifest())), **edit}
    with pytest.raises(ManifestProblem, match="changed after it was written"):
        manifests.load(json.dumps(document, indent=1, sort_keys=True).encode() + b"\n", "x")


@pytest.mark.parametrize("name", ["members", "role_settings", "grants", "login_settings"])
@pytest.mark.parametrize("texts", [7, {"a": 7}, {"a": [7]}])
def test_what_is_recorded_by_role_are_lists_of_texts(name: str, texts: Any) -> None:
    manifest = sample_manifest()
    forged = replace(manifest, source=replace(manifest.source, **{name: texts}))
    with pytest.raises(ManifestProblem, match="cannot be read"):
        manifests.load(manifests.dump(forged), "x")


@pytest.mark.parametrize("name", ["server_settings", "start_settings"])
@pytest.mark.parametrize("texts", [7, {"a": 7}, {"a": ["b"]}])
def test_settings_of_the_server_are_texts(name: str, texts: Any) -> None:
    manifest = sample_manifest()
    forged = replace(manifest, source=replace(manifest.source, **{name: texts}))
    with pytest.raises(ManifestProblem, match="cannot be read"):
        manifests.load(manifests.dump(forged), "x")


LATER = (
    "superusers", "bypassrls", "members", "comment", "connection_limit", "role_settings", "grants", "login_settings",
    "server_settings", "start_settings", "preloaded", "tablespace", "tablespaces", "is_template",
)  # fmt: skip


def test_a_manifest_of_before_knows_less_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(manifests.dump(SAMPLES["dressed"]))
    forge(tmp_path, without_later_fields)
    VALIDATOR.validate(json.loads(path.read_bytes()))
    assert manifests.load(path.read_bytes(), "x") == sample_manifest()
    assert SOURCE.grants is None


def without_later_fields(document: dict[str, Any]) -> None:
    for name in LATER:
        del document["source"][name]


def test_a_key_written_twice_is_refused() -> None:
    data = manifests.dump(sample_manifest())
    doubled = data.replace(b' "change_id": "CHG1",\n', b' "change_id": "CHG2",\n "change_id": "CHG1",\n')
    assert doubled != data
    with pytest.raises(ManifestProblem):
        manifests.load(doubled, "x")


def test_the_problem_names_the_file_and_the_way_out() -> None:
    with pytest.raises(ManifestProblem, match=r"/b/x/manifest.json.*use another one"):
        manifests.load(b"{}", "/b/x/manifest.json")


def test_the_summary_leaves_out_what_grows(manifest: Manifest) -> None:
    summary = manifest.summary()
    assert not {"files", "source"} & summary.keys()
    assert (summary["fingerprint"] is None) == (manifest.fingerprint is None)
    json.dumps(summary)


def test_majors_are_read_from_versions() -> None:
    manifest = sample_manifest(tool="pg_dump 18beta1", server_version="14.23")
    assert (manifest.tool_major, manifest.server_major) == (18, 14)


# --- the schema for other programs --------------------------------------------------------------------


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_manifests_fit_the_schema(manifest: Manifest) -> None:
    VALIDATOR.validate(json.loads(manifests.dump(manifest)))


def test_the_schema_knows_every_field_and_no_other() -> None:
    document = json.loads(manifests.dump(sample_manifest()))
    assert SCHEMA["properties"].keys() == document.keys()
    for part in ("source", "fingerprint"):
        assert SCHEMA["$defs"][part]["properties"].keys() == document[part].keys()
    for name in document:
        lacking = {key: value for key, value in document.items() if key != name}
        assert not VALIDATOR.is_valid(lacking), name
    assert not VALIDATOR.is_valid({**document, "unknown": 1})


@pytest.mark.parametrize(
    "edit",
    [
        {"schema_version": 2},
        {"started": "yesterday"},
        {"format": "tar"},
        {"compression": "bzip2"},
        {"size_bytes": -1},
        {"lsn": "16B3748"},
        {"files": {"data": {"size_bytes": 1, "sha256": "xyz"}}},
        {"files": {"../outside": {"size_bytes": 1, "sha256": "ab" * 32}}},
        {"files": {"/outside": {"size_bytes": 1, "sha256": "ab" * 32}}},
        {"manifest_sha256": ""},
    ],
)
def test_the_schema_refuses_nonsense(edit: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**json.loads(manifests.dump(sample_manifest())), **edit})
