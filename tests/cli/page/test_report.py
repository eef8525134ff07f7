"""``tspctl report`` as a reader sees it: in a real browser, its figures compared with the store's."""

import dataclasses
import json
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.conftest import Ended
from tests.stores import epoch_record, with_seed
from tsp.config.recipes import load_dataset, resolve
from tsp.errors import NoSuchRunError
from tsp.run.class_counts import ClassCounts
from tsp.run.metrics import MetricsLog
from tsp.run.records import Outcome
from tsp.run.results import EpochResult, HeadResult, format_line
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore

ROOT = Path(__file__).resolve().parents[3]
SCREENSHOTS = ROOT / ".screenshots"
LABELS = ("Billiards", "Diving", "</script><script>alert(1)</script>")
ACCURACIES = {"first": [31.5, 47.25, 44.125], "second": [28.0, 39.5, 52.75]}


def store_run(folder: Path, name: str, accuracies: list[float], *, seed: int = 42) -> StoredRun:
    """A finished run with two heads, a confusion matrix, and two attempts."""
    run = StoredRun(LocalStore(folder), name)
    config = resolve(load_dataset("thumos14"), "tsp", name=name, store={"uri": str(folder)}, root="/data")
    run.create(with_seed(config, seed), None)
    run.record_origins(
        versions={"torch": "2.15.0"}, machine={"gpu": "NVIDIA H200"}, digests={"a_train_table.csv": "ab" * 32}
    )
    counts = ClassCounts.of("action-label", LABELS, [[6, 3, 1], [0, 9, 1], [2, 0, 0]])
    for epoch, accuracy in enumerate(accuracies):
        path = folder / "checkpoint"
        path.write_bytes(f"{name} {epoch}".encode())
        heads = (HeadResult("action-label", accuracy - 5, 2.5), HeadResult("temporal-region-label", accuracy + 5, 0.5))
        result = EpochResult(epoch, heads, 3.0 / (epoch + 1), accuracy)
        record = dataclasses.replace(
            epoch_record(epoch, path), result=result, results_line=format_line(result), classes=(counts,)
        )
        run.publish_epoch(path, record)
    for attempt in (1, 2):
        run.store.write(run.log_key(attempt, 0), b"2026-11-29T06:00:0%d+00:00 INFO starting\n" % attempt)
    run.write_outcome(Outcome(state="succeeded", exit_code=0, reason="all epochs", attempt=2))
    return run


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return {name: store_run(folder, name, found, seed=i) for i, (name, found) in enumerate(ACCURACIES.items())}


@pytest.fixture
def page(runs, tspctl, tmp_path) -> Path:
    """The page of both runs."""
    done: Ended = tspctl(
        "report", "first", "second", "--store", tmp_path / "runs", "--backend", "local", "--out", "r.html"
    )
    assert done.code == 0, done.err
    assert done.out.strip() == "r.html"
    return tmp_path / "r.html"


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium without network; skips where there is none."""
    found = subprocess.run([ROOT / "scripts/chromium.sh", "--no-install"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,2400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(found.stdout.strip()))
    yield driver
    driver.quit()


def opened(browser, page):
    browser.get(page.as_uri())
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    return browser


def texts(browser, selector):
    from selenium.webdriver.common.by import By

    return [item.text for item in browser.find_elements(By.CSS_SELECTOR, selector)]


def rows_of(browser, title):
    """The cells of a section's first table."""
    return browser.execute_script(
        "const sections = [...document.querySelectorAll('section')];"
        "const section = sections.find((item) => item.firstChild.textContent === arguments[0]);"
        "return [...section.querySelector('tbody').rows].map((row) => [...row.cells].map((cell) => cell.textContent));",
        title,
    )


def test_the_figures_of_the_page_are_the_stores_and_the_best_run_comes_first(browser, page, runs):
    opened(browser, page)
    shown = rows_of(browser, "Runs")
    assert [row[1] for row in shown] == ["second", "first"]
    assert [float(row[3]) for row in shown] == [runs[name].best().avg_accuracy_percent for name in ("second", "first")]
    digests = {(row[0], int(row[1].partition(",")[0])): row[4] for row in rows_of(browser, "Checkpoints")}
    assert digests == {(name, n): item.sha256 for name, run in runs.items() for n, item in run.epochs().items()}
    assert rows_of(browser, "Data and weights") == [["a_train_table.csv", *["ab" * 8] * 2]]
    SCREENSHOTS.mkdir(exist_ok=True)
    assert browser.save_screenshot(str(SCREENSHOTS / "report.png"))


def test_what_differs_is_shown_and_nothing_else(browser, page):
    opened(browser, page)
    assert rows_of(browser, "Differences in configuration") == [["seed", "0", "1"]]


@pytest.fixture
def interrupted(runs) -> StoredRun:
    """The first run with three attempts: killed after an hour, lost a rank after two hours off, failed."""
    run = runs["first"]
    hours = {1: (0, 1), 2: (3, 5), 3: (6, 8)}
    errors = {1: "", 2: " ERROR no heartbeat from rank 1 for 60 s", 3: " ERROR the loss is nan in epoch 2, step 7"}
    for attempt, (begun, ended) in hours.items():
        key = run.log_key(attempt, 0)
        lines = f"2026-11-29T0{begun}:00:00+00:00 INFO starting\n2026-11-29T0{ended}:00:00+00:00{errors[attempt]}\n"
        run.store.write(key, lines.encode())
        written = datetime(2026, 11, 29, ended, tzinfo=UTC).timestamp()
        os.utime(run.store.local_path(key), (written, written))
        log = MetricsLog(run, attempt)
        log.write(
            "start", epoch=attempt - 1, step=5, steps=10, **({"changed": {"driver": "2, was 1"}} if ended == 8 else {})
        )
        log.close()
    for path, change in (
        ("run.json", {"created": "2026-11-28T23:00:00+00:00"}),
        ("epoch_0.json", {"created": "2026-11-29T00:30:00+00:00"}),
        ("epoch_1.json", {"created": "2026-11-29T04:00:00+00:00"}),
        ("epoch_2.json", {"created": "2026-11-29T07:30:00+00:00"}),
    ):
        run.store.write(run.key(path), json.dumps({**json.loads(run.store.read(run.key(path))), **change}).encode())
    run.write_outcome(Outcome(state="failed", exit_code=7, reason="the loss is nan", attempt=3))
    return run


def test_attempts_and_interruptions_are_drawn_to_scale_and_say_what_ended_them(browser, interrupted, tspctl, tmp_path):
    done = tspctl("report", "first", "--store", tmp_path / "runs", "--backend", "local", "--out", tmp_path / "r.html")
    assert done.code == 0, done.err
    opened(browser, tmp_path / "r.html")

    # Nine hours, from the run's creation to the last attempt's last line, are 1000 wide.
    def boxes(selector):
        return browser.execute_script(
            f"return [...document.querySelectorAll('.lane {selector}')].map((item) => "
            "[item.x.baseVal.value, item.x.baseVal.value + item.width.baseVal.value]);"
        )

    hours = [[round(9 * side / 1000, 3) for side in box] for box in boxes(".attempt")]
    assert hours == [[1, 2], [4, 6], [7, 9]]
    assert [[round(9 * side / 1000, 3) for side in box] for box in boxes(".gap")] == [[0, 1], [2, 4], [6, 7]]
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.lane title')].map((item) => item.textContent)"
    )
    assert "interrupted for 120 min" in " ".join(titles).replace("2 h", "120 min")
    assert any(title.startswith("interrupted") and "no heartbeat from rank 1" in title for title in titles)
    assert any("attempt 3" in title and "driver: 2, was 1" in title and "loss is nan" in title for title in titles)
    marks = browser.execute_script(
        "return [...document.querySelectorAll('.lane .mark')].map((i) => [i.dataset.epoch, i.x1.baseVal.value])"
    )
    assert [(epoch, round(9 * x / 1000, 3)) for epoch, x in marks] == [("0", 1.5), ("1", 5.0), ("2", 8.5)]
    assert len(browser.execute_script("return document.querySelectorAll('.lane .failed')")) == 1
    rows = rows_of(browser, "Attempts and interruptions")
    assert [(row[1], row[5], row[6], row[7], row[8]) for row in rows] == [
        ("1", "60 min", "0.500", "0", "–"),
        ("2", "2 h", "1.500", "1", "no heartbeat from rank 1 for 60 s"),
        ("3", "2 h", "2.500", "2", "the loss is nan in epoch 2, step 7"),
    ]
    SCREENSHOTS.mkdir(exist_ok=True)
    assert browser.save_screenshot(str(SCREENSHOTS / "report-attempts.png"))


def test_attempts_whose_clocks_jumped_stay_in_order_and_inside(browser, interrupted, tspctl, tmp_path):
    for attempt, text in (
        (1, "2026-11-29T09:00:00+00:00 INFO a clock ahead\n"),
        (2, "2031-01-01T00:00:00+00:00 INFO far\n"),
    ):
        interrupted.store.write(interrupted.log_key(attempt, 0), text.encode())
    done = tspctl("report", "first", "--store", tmp_path / "runs", "--backend", "local", "--out", tmp_path / "r.html")
    assert done.code == 0, done.err
    opened(browser, tmp_path / "r.html")
    edges = browser.execute_script(
        "return [...document.querySelectorAll('.lane .attempt')].flatMap((item) => "
        "[item.x.baseVal.value, item.x.baseVal.value + item.width.baseVal.value]);"
    )
    assert edges == sorted(edges)
    assert 0 <= edges[0] <= edges[-1] <= 1010


def test_attempts_show_when_they_started_and_classes_what_they_were_taken_for(browser, page):
    opened(browser, page)
    assert [(row[0], row[1], row[3]) for row in rows_of(browser, "Attempts and interruptions")] == [
        (name, str(attempt), "2026-11-29 06:00 UTC") for name in ACCURACIES for attempt in (1, 2)
    ]
    classes = rows_of(browser, "Classes in the best epochs")
    # The weakest first; a class's own name is text, whatever it holds.
    assert [row[:3] for row in classes] == [
        [LABELS[2], "2", "0.0"],
        [LABELS[0], "10", "60.0"],
        [LABELS[1], "10", "90.0"],
    ]
    assert classes[1][3] == f"Diving (3), {LABELS[2]} (1)"


def test_a_pointer_over_a_curve_shows_the_figures_of_that_epoch_and_a_run_can_be_hidden(browser, page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    opened(browser, page)
    chart = browser.find_element(By.CSS_SELECTOR, '[data-chart="Average accuracy"]')
    picture = chart.find_element(By.TAG_NAME, "svg")
    ActionChains(browser).move_to_element_with_offset(picture, picture.size["width"] // 2 - 12, 0).perform()
    assert chart.find_element(By.CLASS_NAME, "tip").text.splitlines() == ["epoch 2", "first: 44.125", "second: 52.750"]
    browser.find_element(By.CSS_SELECTOR, '[aria-label="show first"]').click()
    assert {line.get_attribute("data-run") for line in chart.find_elements(By.CLASS_NAME, "line")} == {"second"}


def test_a_logarithmic_scale_keeps_the_order_of_the_curves(browser, page):
    from selenium.webdriver.common.by import By

    opened(browser, page)
    chart = browser.find_element(By.CSS_SELECTOR, '[data-chart="Total validation loss"]')
    before = chart.find_element(By.CLASS_NAME, "line").get_attribute("d")
    chart.find_element(By.CSS_SELECTOR, "input").click()
    after = chart.find_element(By.CLASS_NAME, "line").get_attribute("d")
    heights = [[float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)] for path in (before, after)]
    assert heights[0] != heights[1]
    assert heights[0] == sorted(heights[0])
    assert heights[1] == sorted(heights[1])


def test_nothing_is_requested_beside_the_page_itself(browser, page):
    browser.get_log("performance")
    opened(browser, page)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in requested if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_a_phone_and_a_desk_and_the_dark(browser, page, width):
    try:
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 2000, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        opened(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 31)"
        SCREENSHOTS.mkdir(exist_ok=True)
        assert browser.save_screenshot(str(SCREENSHOTS / f"report-dark-{width}.png"))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_folder_of_the_original_scripts_makes_a_page_of_what_it_has(tspctl, browser, tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    line = "** Valid Epoch 0:  <action-label> Accuracy 12.500 Loss 2.000; Total Loss 2.000 Avg Accuracy 12.500"
    (folder / "results.txt").write_text(f"{line}\n")
    done = tspctl("report", folder, "--out", tmp_path / "original.html")
    assert done.code == 0, done.err
    opened(browser, tmp_path / "original.html")
    assert rows_of(browser, "Runs")[0][3] == "12.500"


def test_thirty_runs_have_lines_of_their_own_and_fit_a_phone_and_500_epochs_are_folded(tspctl, browser, tmp_path):
    line = "** Valid Epoch {}:  <action-label> Accuracy {}.500 Loss 2.000; Total Loss 2.000 Avg Accuracy {}.500\n"
    names = [f"a-run-{number:02d}-{'x' * 30}" for number in range(30)]
    for name in names:
        (tmp_path / name).mkdir()
        epochs = 500 if name == names[0] else 2
        (tmp_path / name / "results.txt").write_text("".join(line.format(n, n % 50, n % 50) for n in range(epochs)))
    done = tspctl("report", *(tmp_path / name for name in names), "--out", tmp_path / "many.html")
    assert done.code == 0, done.err
    size = {"width": 360, "height": 2000, "deviceScaleFactor": 1, "mobile": True}
    try:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        opened(browser, tmp_path / "many.html")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    looks = browser.execute_script(
        "return [...document.querySelectorAll('[data-chart=\"Average accuracy\"] .line')].map((line) => "
        "line.getAttribute('stroke') + line.getAttribute('stroke-dasharray'));"
    )
    assert (len(looks), len(set(looks))) == (30, 30)
    assert len(rows_of(browser, "Checkpoints")) == 558
    assert browser.execute_script("return document.querySelector('details').open") is False


def test_damaged_files_are_named_on_the_page_beside_what_can_be_shown(tspctl, browser, runs, tmp_path):
    (tmp_path / "runs/first/run.json").write_text("{")
    (tmp_path / "runs/first/outcome.json").write_text("[]")
    done = tspctl("report", "first", "--store", tmp_path / "runs", "--backend", "local", "--out", tmp_path / "r.html")
    assert done.code == 0, done.err
    opened(browser, tmp_path / "r.html")
    named = " ".join(texts(browser, ".problem"))
    assert "run.json is damaged" in named
    assert "outcome.json is damaged" in named
    assert rows_of(browser, "Runs")[0][3] == "47.250"


def test_a_run_that_does_not_exist_writes_no_page(tspctl, runs, tmp_path):
    done = tspctl("report", "first", "third", "--store", tmp_path / "runs", "--backend", "local", "--out", "r.html")
    assert done.code == NoSuchRunError.exit_code
    assert "third" in done.err
    assert not (tmp_path / "r.html").exists()


def test_the_password_of_an_address_is_not_on_the_page(tspctl, runs, tmp_path):
    reason = "the store at https://ada:hunter2@s3.example refuses"
    runs["first"].write_outcome(Outcome(state="failed", exit_code=5, reason=reason, attempt=2))
    done = tspctl("report", "first", "--store", tmp_path / "runs", "--backend", "local", "--out", tmp_path / "r.html")
    assert done.code == 0, done.err
    page = (tmp_path / "r.html").read_text()
    assert "s3.example refuses" in page
    assert "hunter2" not in page
