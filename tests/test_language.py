"""The languages of pages: every phrase has a Korean one, with the same placeholders."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Formatter

import pytest
from jinja2 import Environment
from support import FACTS, record

from pruneloop.records import LayerRecord, RunFolder
from pruneloop.report import page
from pruneloop.report.korean import KOREAN
from pruneloop.report.language import spoken
from pruneloop.report.run import write_report

REPORT = Path(page.__file__).parent


def phrases() -> Iterator[str]:
    """Yield what templates and code have translated."""
    templates = Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)
    templates.policies["ext.i18n.trimmed"] = True
    for path in REPORT.glob("templates/*.html"):
        for _, _, found in templates.extract_translations(path.read_text(encoding="utf-8")):
            several = found if isinstance(found, tuple) else (found,)
            # A block doubles its own % once more where it is taken out.
            yield from (phrase.replace("%%%%", "%%") for phrase in several if phrase)
    for path in REPORT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "t":
                yield ast.literal_eval(node.args[0])


def placeholders(phrase: str) -> list[str]:
    named = re.findall(r"%\((\w+)\)s", phrase)
    return sorted(named) if named else sorted(str(part[1:4]) for part in Formatter().parse(phrase))


def test_every_phrase_is_translated_and_no_other() -> None:
    assert set(phrases()) == set(KOREAN)


def test_placeholders_are_the_same() -> None:
    for english, korean in KOREAN.items():
        named = re.findall(r"%\((\w+)\)s", english)
        assert sorted(re.findall(r"%\((\w+)\)s", korean)) == sorted(named), english
        fields = {part[1] for part in Formatter().parse(english)} - {None}
        assert {part[1] for part in Formatter().parse(korean)} - {None} == fields, english


@pytest.mark.parametrize(
    ("asked", "locale", "expected"),
    [
        ("auto", {"LANG": "ko_KR.UTF-8"}, "ko"),
        ("auto", {"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ("auto", {}, "en"),
        ("en", {"LANG": "ko_KR.UTF-8"}, "en"),
        ("ko", {"LANG": "C"}, "ko"),
    ],
)
def test_auto_follows_the_locale(asked: str, locale: dict, expected: str, monkeypatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert spoken(asked) == expected


def test_a_page_speaks_korean(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_rounds([record(0, None), record(1, 0.7)])
    folder.write_layers([LayerRecord(number, "a.layer.0.b", "b", 10, 0, 0.0) for number in (0, 1)])
    folder.write_facts(replace(FACTS, language="ko"))
    write_report(folder)
    text = folder.report.read_text(encoding="utf-8")
    assert '<html lang="ko">' in text and "프루닝 직후 정확도" in text and "1%p 이내의" in text
    assert "for " not in re.sub(r"<(style|script|svg).*?</\\1>|<[^>]*>", "", text, flags=re.S)
