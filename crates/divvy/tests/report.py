"""Drives a report in headless Chromium, from disk: report.py PAGE FOLDER_FOR_SCREENSHOTS ROWS [many|sets]."""

import os
import sys
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

page_file, shots, rows = Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3])
many, several = sys.argv[4:] == ["many"], sys.argv[4:] == ["sets"]
os.makedirs(shots, exist_ok=True)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
QUESTIONS, ARMS = rows // 10, 10


def shot(page, name, full=True):
    page.screenshot(path=f"{shots}/report-{name}.png", full_page=full)


def narrow(page):
    """Nothing sticks out sideways."""
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room, (width, room)


def opened(browser, problems, **options):
    page = browser.new_page(**options)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    began = time.monotonic()
    page.goto(page_file.as_uri(), wait_until="commit")
    # Not `wait_for_function`: where it has to wait it evaluates a text, which the page's policy forbids.
    while not page.evaluate("performance.getEntriesByName('first-contentful-paint').length > 0"):
        time.sleep(0.01)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    expect(page.locator("#rows-list > li")).to_have_count(20, timeout=60_000)
    print(f"first paint {paint:.0f} ms, rows after {1000 * (time.monotonic() - began):.0f} ms")
    return page


def tables(page):
    arms = page.locator("#arms tbody tr")
    expect(arms).to_have_count(ARMS)
    accuracy = page.locator("#arms tr.heads th", has_text="Accuracy")
    accuracy.get_by_role("button").click()
    expect(accuracy).to_have_attribute("aria-sort", "descending")
    column = accuracy.evaluate("heading => [...heading.parentElement.cells].indexOf(heading)")
    values = page.evaluate(f"[...document.querySelectorAll('#arms tbody tr')].map(row => Number(row.cells[{column}].dataset.sort))")
    assert values == sorted(values, reverse=True) and len(set(values)) > 3, values
    accuracy.get_by_role("button").click()
    expect(accuracy).to_have_attribute("aria-sort", "ascending")
    field = page.get_by_label("Filter the rows of: Every arm")
    field.fill("two-stage small")
    expect(page.locator("#arms tbody tr:visible")).to_have_count(4)
    expect(page.locator(".filter output").first).to_have_text(f"4 of {ARMS}")
    field.fill("")
    expect(page.locator("#arms tbody tr:visible")).to_have_count(ARMS)


def grouped(number):
    return f"{number:,}"


def choices(page):
    found, where = page.locator("#rows-found"), page.locator("#rows-where")
    expect(found).to_have_text(f"{grouped(rows)} rows")
    expect(where).to_have_text("1–20")
    page.locator("#rows-next").click()
    expect(where).to_have_text("21–40")
    page.locator("#rows-arm").select_option(label="cot/big")
    expect(found).to_have_text(f"{grouped(QUESTIONS)} rows")
    expect(where).to_have_text("1–20")
    page.locator("#rows-state").select_option(label="right")
    expect(page.locator("#rows-list .state.wrong")).to_have_count(0)
    right = int(found.inner_text().split()[0].replace(",", ""))
    page.locator("#rows-state").select_option(label="not right")
    expect(page.locator("#rows-list .state.right")).to_have_count(0)
    expect(found).to_have_text(f"{grouped(QUESTIONS - right)} rows")
    # The page says what the table of arms says.
    row = page.locator("#arms tbody tr", has=page.locator("th", has_text="cot/big"))
    expect(row.locator("td").nth(1)).to_have_text(grouped(right))
    page.locator("#rows-state").select_option(label="— truncated")
    expect(page.locator("#rows-list .state").first).to_have_text("✗ truncated")
    page.locator("#rows-state").select_option(label="right")
    page.locator("#rows-against").select_option(label="direct/small")
    unlike = int(found.inner_text().split()[0].replace(",", ""))
    assert 0 < unlike < right, (unlike, right)
    page.locator("#rows-state").select_option("")
    page.locator("#rows-against").select_option("")


def open_row(page):
    page.locator("#rows-arm").select_option(label="two-stage/teacher/big")
    row = page.locator("#rows-list > li").nth(1)
    row.locator("summary").first.click()
    body = row.locator(".body")
    expect(body.locator("dt", has_text="Subquestions")).to_be_visible()
    calls = body.locator(".call")
    expect(calls).to_have_count(2)
    expect(calls.first.locator("summary")).to_contain_text("160 tokens in, 60 out")
    calls.nth(1).locator("summary").click()
    expect(calls.nth(1).locator("pre").nth(1)).to_contain_text("A baker has 12 trays")
    expect(calls.nth(1).locator("pre").last).to_contain_text("The answer is:")
    page.locator("#rows").scroll_into_view_if_needed()
    shot(page, "row")
    body.locator(".siblings button", has_text="direct/small").click()
    expect(body.locator("dd strong").first).to_have_text("direct/small")
    expect(body.locator(".call")).to_have_count(1)


def search(page):
    page.locator("#rows-arm").select_option(label="cot/small")
    text, found = page.locator("#rows-text"), page.locator("#rows-found")
    last = QUESTIONS - 1
    text.fill(f"question {last}.")
    expect(found).to_have_text("1 row", timeout=60_000)
    expect(page.locator("#rows-list .id")).to_contain_text(f"synth/test/{last} · cot/small")
    # Another word while the first is still looked for.
    text.fill("once more")
    page.wait_for_timeout(250)
    text.fill("no such words anywhere")
    if many:
        # The page answers meanwhile.
        longest = page.evaluate("""async () => {
            let [longest, before] = [0, performance.now()];
            for (const end = before + 2000; performance.now() < end;) {
                await new Promise((resolve) => { setTimeout(resolve); });
                longest = Math.max(longest, performance.now() - before);
                before = performance.now();
            }
            return longest;
        }""")
        print(f"longest wait while searching {longest:.0f} ms")
    expect(found).to_have_text("0 rows", timeout=60_000)
    expect(page.locator("#rows-list > li")).to_have_count(0)
    text.fill("")
    expect(found).to_have_text(f"{grouped(QUESTIONS)} rows")


def theme(page):
    def brightness():
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return max(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(","))
    assert brightness() > 200
    shot(page, "light")
    page.locator("#theme").click()
    assert brightness() < 64
    shot(page, "dark")
    page.locator("#theme").click()


def desk(browser):
    problems = []
    page = opened(browser, problems)
    for part in (tables, choices, open_row, search, theme):
        part(page)
    narrow(page)
    # Neither a script's error nor anything that the page's policy forbids.
    assert not problems, problems
    page.close()


def phone(browser):
    problems = []
    page = opened(browser, problems, viewport={"width": 390, "height": 844}, color_scheme="dark")
    narrow(page)
    page.locator("#rows-list > li summary").first.click()
    expect(page.locator(".call").first).to_be_visible()
    page.locator(".call summary").first.click()
    expect(page.locator(".call pre").first).to_be_visible()
    narrow(page)
    shot(page, "phone")
    page.locator("#rows").evaluate("element => element.scrollIntoView()")
    shot(page, "phone-rows", full=False)
    assert not problems, problems
    page.close()


def without_script(browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(page_file.as_uri())
    expect(page.locator("#arms tbody tr")).to_have_count(ARMS)
    expect(page.locator("#browser")).to_be_hidden()
    page.locator("details.examples summary").first.click()
    expect(page.locator("article").first).to_be_visible()


def moved(browser):
    """A page whose rows did not come along says so."""
    alone = page_file.with_name("alone.html")
    alone.write_text(page_file.read_text().replace(f"{page_file.stem}.rows", "elsewhere.rows"))
    page = browser.new_page()
    page.goto(alone.as_uri())
    expect(page.locator("#rows-problem")).to_contain_text("“elsewhere.rows”, which must stand beside this page")


def sets(browser):
    """Two data sets: each has tables of its own, and one list of rows is for both."""
    problems = []
    page = opened(browser, problems)
    expect(page.locator("section.verdict.by-dataset > ul > li")).to_have_count(2)
    for number in (1, 2):
        page.locator(f"nav a[href='#set-{number}']").click()
        section = page.locator(f"#set-{number}")
        expect(section).to_be_in_viewport()
        expect(section.locator("figure svg").first).to_be_visible()
        arms = section.locator(f"#arms-{number} tbody tr")
        expect(arms).to_have_count(ARMS)
        section.get_by_label("Filter the rows of: Every arm").fill("two-stage small")
        expect(section.locator(f"#arms-{number} tbody tr:visible")).to_have_count(4)
        if number == 1:
            expect(page.locator("#arms-2 tbody tr:visible")).to_have_count(ARMS)
    accuracy = page.locator("#arms-2 tr.heads th", has_text="Accuracy")
    accuracy.get_by_role("button").click()
    expect(accuracy).to_have_attribute("aria-sort", "descending")
    expect(page.locator("#arms-1 [aria-sort]")).to_have_count(0)
    expect(page.locator("#rows-found")).to_have_text(f"{grouped(rows)} rows")
    # Nobody has counted what the first row took.
    first = page.locator("#rows-list > li").first
    first.locator("summary").first.click()
    expect(first.locator("dd", has_text="tokens in").first).to_contain_text("– tokens in, – out")
    # In the second chunk, whose calls once had the id of a table.
    page.locator("#rows-text").fill("facts/test/39")
    expect(page.locator("#rows-found")).to_have_text(f"{ARMS} rows", timeout=60_000)
    expect(first.locator(".id")).to_contain_text("facts/test/39")
    first.locator("summary").first.click()
    expect(first.locator(".call")).to_have_count(1)
    narrow(page)
    shot(page, "sets")
    assert not problems, problems
    page.close()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS)
    parts = (sets,) if several else (desk, phone, without_script) + ((moved,) if many else ())
    for part in parts:
        part(browser)
    browser.close()
print("ok")
