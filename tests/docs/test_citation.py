"""CITATION.cff is what version 1.2.0 of its format allows, and true of the project; versions have one policy."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import transfuse
import yaml

ROOT = Path(__file__).parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {"cff-version", "message", "title", "authors"}
ALLOWED = {*REQUIRED, "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords"} | {
    *("license", "license-url", "preferred-citation", "references", "repository", "repository-artifact"),
    *("repository-code", "type", "url", "version"),
}
PERSON, ENTITY = (
    {"family-names", "given-names", "orcid", "affiliation", "alias"},
    {"name", "website", "alias"},
)


def authors_hold(work: dict[str, Any]) -> bool:
    """Authors are persons or entities, and at least one."""
    return bool(work["authors"]) and all(
        one.keys() <= PERSON or one.keys() <= ENTITY for one in work["authors"]
    )


def test_it_has_the_formats_keys_and_no_other() -> None:
    assert REQUIRED <= CITATION.keys() <= ALLOWED
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    assert authors_hold(CITATION)
    texts = ("message", "title", "abstract", "version", "license")
    assert all(isinstance(CITATION[name], str) and CITATION[name] for name in texts)
    assert len(set(CITATION["keywords"])) == len(CITATION["keywords"]) > 0


@pytest.mark.parametrize("work", CITATION["references"], ids=lambda work: work["title"][:11])
def test_each_reference_is_a_work_that_can_be_found(work: dict[str, Any]) -> None:
    assert {"type", "title", "authors"} <= work.keys()
    assert authors_hold(work)
    (identifier,) = work["identifiers"]
    assert re.fullmatch(r"arXiv:(\d{4}\.\d{5})", identifier["value"])
    assert work["url"] == f"https://arxiv.org/abs/{identifier['value'].removeprefix('arXiv:')}"
    assert work["year"] == 2000 + int(identifier["value"][6:8])


def test_it_says_what_the_project_says() -> None:
    assert CITATION["version"] == transfuse.__version__
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["title"].lower().endswith(PROJECT["description"].lower().removeprefix("a "))


def test_the_changelog_is_of_the_form_that_the_policy_says() -> None:
    policy = (ROOT / "docs/versions.md").read_text()
    log = (ROOT / "CHANGELOG.md").read_text()
    known = set(re.findall(r"\*(\w+)\*", policy.split("## The changelog")[1]))
    versions = re.findall(r"^## (.+)$", log, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert "Unreleased" in known
    assert set(re.findall(r"^### (.+)$", log, re.MULTILINE)) <= known
    assert re.findall(r"^[<=>]{7}", log, re.MULTILINE) == []


def test_the_policy_names_every_format_that_is_written() -> None:
    policy = (ROOT / "docs/versions.md").read_text()
    from transfuse_adapters.store.manifests import Plan

    assert f"`{Plan.model_fields['format'].default}`" in policy
    for module in ("transfuse", "transfuse.plugin", "transfuse.testing"):
        assert f"[`{module}`](api/" in policy
