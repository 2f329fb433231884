"""The book's page of results says what the files in results/ say."""

import copy

import pytest
import results_page


@pytest.fixture(scope="module")
def results():
    return results_page.stored_results()


def test_the_page_is_made_from_the_files(results):
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page(results)


def test_the_readme_has_the_same_figures(results):
    text = results_page.README.read_text(encoding="utf-8")
    assert results_page.readme(text, results) == text
    changed = copy.deepcopy(results)
    changed["finetuning"]["figures"]["EWT"]["test"]["accuracy"]["values"][0] += 0.05
    assert results_page.readme(text, changed) != text


def test_every_file_says_how_it_came_about(results):
    for name, result in results.items():
        assert set(result) == {"command", "date", "machine", "versions", "figures"}, name
        assert result["command"].startswith("python benchmarks/") and "/tmp" not in result["command"], name
        assert f"| `{name}.json` | {results_page.WHAT[name]} |" in results_page.page(results)


def test_a_changed_figure_changes_the_page(results):
    changed = copy.deepcopy(results)
    changed["live_run"]["figures"]["runs"][0]["mask_accuracy"] += 0.05
    assert results_page.page(changed) != results_page.page(results)


def test_a_mean_has_its_spread():
    assert results_page.mean_and_sd([0.1, 0.2, 0.3]) == "20.0 ± 10.0"
    assert results_page.mean_and_sd([0.25]) == "25.0 (one seed)"
