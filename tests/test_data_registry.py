from __future__ import annotations

import re

import pytest
import yaml

from knowtuning.data.registry import REGISTRY, registry
from knowtuning.files import DataError


def test_the_five_sources_of_the_paper_are_pinned_to_a_commit():
    sources = registry()
    assert list(sources) == ["dolly", "medquad", "lima", "nq", "eli5"]
    for source in sources.values():
        assert re.fullmatch("[0-9a-f]{40}", source.revision)
        assert source.files and source.licence and source.citation.startswith("@") and source.homepage
    assert sources["dolly"].sizes == {"train": 4000, "valid": 200, "test": 200}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "main"}, "dolly: field 'revision' is 'main'; string should match pattern '^[0-9a-f]{40}$'."),
        ({"revision": "bdd27f4"}, "field 'revision' is 'bdd27f4'"),
        ({"files": {"a.json": "abc"}}, "field 'files.a.json' is 'abc'; string should match pattern '^[0-9a-f]{64}$'."),
        ({"licence": ...}, "field 'licence' is missing"),
        ({"license": "mit"}, "field 'license' is unknown"),
    ],
)
def test_an_entry_that_pins_nothing_is_refused(tmp_path, change, message):
    entry = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))["dolly"] | change
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump({"dolly": {key: value for key, value in entry.items() if value is not ...}}))
    with pytest.raises(DataError) as error:
        registry(path)
    assert message in str(error.value)


def test_a_revision_may_be_open(tmp_path):
    entry = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))["dolly"] | {"revision": None}
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump({"dolly": entry}))
    assert registry(path)["dolly"].revision is None
