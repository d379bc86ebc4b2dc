"""Drives the page of `divvy serve` in headless Chromium: page.py URL FOLDER_FOR_SCREENSHOTS [at-work]."""

import os
import sys

from playwright.sync_api import expect, sync_playwright

url, shots = sys.argv[1:3]
os.makedirs(shots, exist_ok=True)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
PENS = "Ann has 3 boxes of 12 pens and gives 7 away. How many are left?"


def shot(page, name):
    page.screenshot(path=f"{shots}/{name}.png", full_page=True)


def narrow(page):
    """Nothing sticks out sideways."""
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room, (width, room)


def ask(page):
    # With the keyboard alone.
    expect(page.locator("#first")).to_have_value("two-stage/sd/big")
    page.locator("#first").select_option("two-stage/big/big")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type(PENS)
    page.keyboard.press("Control+Enter")
    pane = page.locator(".pane")
    expect(pane.locator(".answer")).to_have_text("The answer is: 29")
    expect(pane.locator(".steps li")).to_have_count(2)
    expect(pane.locator(".known").nth(1)).to_have_text("36 - 7 = 29")
    expect(pane.locator(".figures")).to_contain_text("tokens in")
    expect(pane.locator(".measured")).to_contain_text("on 4 test questions")
    shot(page, "ask")


def compare(page):
    # With markup in the question that must stay text.
    page.locator("#second").select_option("cot/big")
    page.locator("#question").fill("<img src=x onerror=alert(1)> How many?")
    page.locator("#send").click()
    expect(page.locator(".pane")).to_have_count(2)
    expect(page.locator(".pane .answer").nth(1)).to_contain_text("29")
    expect(page.locator("#send")).to_be_enabled()
    shot(page, "compare")


def browse_runs(page):
    page.locator("#tab-runs").click()
    cards = page.locator(".card.run")
    expect(cards).to_have_count(2)
    expect(cards.nth(1)).to_contain_text("served here")
    expect(cards.nth(0).locator("h2")).to_contain_text("other")
    expect(cards.nth(0)).to_contain_text("4 test")
    shot(page, "runs")
    # The rows of one arm of the run that is not served.
    cards.nth(0).get_by_role("link", name="cot/big").click()
    expect(page.locator("#plan option:checked")).to_contain_text("other")
    expect(page.locator("#rows-where")).to_have_text("1 to 4 of 4")


def browse_rows(page):
    page.locator("#plan").select_option(index=0)
    expect(page.locator("#plan option:checked")).to_contain_text("served here")
    page.locator("#rows-arm").select_option("two-stage/big/big")
    expect(page.locator("#rows-where")).to_have_text("1 to 4 of 4")
    expect(page.locator("#rows .card").first.locator(".known").first).to_have_text("3 * 12 = 36")
    page.locator("#rows-wrong").check()
    expect(page.locator("#rows .card .wrong").first).to_be_visible()
    expect(page.locator("#rows .card .right")).to_have_count(0)
    shot(page, "rows")
    # Collected rows, more than a page of them; n and p turn pages, the browser's own keys go back.
    page.locator("#rows-stage").select_option("collect")
    expect(page.locator("#rows .note")).to_have_text("No such rows.")
    page.locator("#rows-wrong").uncheck()
    expect(page.locator("#rows-where")).to_have_text("1 to 20 of 24")
    page.keyboard.press("n")
    expect(page.locator("#rows-where")).to_have_text("21 to 24 of 24")
    expect(page.locator("#rows-on")).to_be_disabled()
    page.keyboard.press("p")
    expect(page.locator("#rows-where")).to_have_text("1 to 20 of 24")
    page.go_back()
    expect(page.locator("#rows-where")).to_have_text("21 to 24 of 24")
    shot(page, "collected")


def browse_calls(page):
    page.locator("#rows-stage").select_option("evaluate")
    page.locator("#rows-arm").select_option("two-stage/big/big")
    links = page.locator("#rows .card").first.locator(".links a")
    expect(links).to_have_count(2)
    key = links.last.inner_text()
    links.last.click()
    expect(page.locator("#call h2")).to_contain_text(key)
    expect(page.locator("#call pre").first).to_be_visible()
    expect(page.locator("#call .card")).to_be_focused()
    expect(page.locator("#calls tr").nth(1)).to_contain_text("evaluate synth/test")
    shot(page, "calls")
    page.locator("#calls-earlier").click()
    expect(page.locator("#calls-later")).to_be_enabled()


def progress_and_report(page):
    page.locator("#tab-calls").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-progress")).to_be_focused()
    expect(page.locator("#progress-job")).to_contain_text("Nothing runs")
    expect(page.locator("#progress")).to_contain_text("evaluate")
    expect(page.locator("#progress")).to_contain_text("trained on")
    shot(page, "progress")
    page.locator("#tab-report").click()
    expect(page.frame_locator("#report").locator("body")).to_contain_text("cot/big")
    shot(page, "report")


def errors(page):
    page.locator("#tab-ask").click()
    page.locator("#second").select_option("")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=429, content_type="application/json", body='{"error": {"message": "Too many requests are waiting"}}'))
    page.locator("#send").click()
    expect(page.locator(".pane .failed")).to_have_text("Too many requests are waiting")
    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    page.locator("#send").click()
    expect(page.locator(".pane .failed")).to_contain_text("cannot be reached")
    page.unroute("**/v1/chat/completions")
    # In the midst of a stream.
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=200, content_type="text/event-stream",
        body='data: {"choices": [{"delta": {"content": "The"}}]}\n\ndata: {"error": {"message": "The model failed"}}\n\n'))
    page.locator("#send").click()
    expect(page.locator(".pane .failed")).to_have_text("The model failed")
    expect(page.locator(".pane .answer")).to_have_text("The")
    page.unroute("**/v1/chat/completions")
    # A store that cannot be shown, and an address that names what is not there.
    page.goto(f"{url}#/calls?key=ffffffffffff")
    expect(page.locator("#problem")).to_contain_text("There is no call ffffffffffff")
    shot(page, "error")
    page.goto(f"{url}#/rows?plan={'f' * 64}")
    expect(page.locator("#problem")).to_contain_text("There is no plan ffffffffffff")
    expect(page.locator("#tab-rows")).to_have_attribute("aria-selected", "true")


def desk(browser):
    page, problems = browser.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(url)
    for part in (ask, compare, browse_runs, browse_rows, browse_calls, progress_and_report):
        part(page)
    # Neither a script's error nor anything that the page's policy forbids.
    assert not problems, problems
    errors(page)


def phone(browser):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto(url)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in dark.removeprefix("rgb(").removesuffix(")").split(",")) < 64, dark
    expect(page.locator("#first")).not_to_have_value("")
    page.locator("#question").fill(PENS + " each of them quite long" * 20 + " " + "unbroken" * 30)
    page.locator("#send").click()
    expect(page.locator(".pane .answer")).to_contain_text("29")
    narrow(page)
    shot(page, "phone-ask")
    shown = {"runs": ".card.run", "rows": "#rows .card", "calls": "#calls tr", "progress": "#progress .card"}
    for view in (*shown, "report"):
        page.locator(f"#tab-{view}").click()
        if view == "report":
            expect(page.frame_locator("#report").locator("body")).to_contain_text("cot/big")
        else:
            expect(page.locator(shown[view]).first).to_be_visible()
        narrow(page)
        shot(page, f"phone-{view}")


def at_work(browser):
    page = browser.new_page()
    page.goto(f"{url}#/progress")
    # It begins while somebody looks, and its pace shows without a reload.
    expect(page.locator("#progress-job")).to_contain_text("At work: run", timeout=60_000)
    expect(page.locator("#progress")).to_contain_text("a second, about", timeout=60_000)
    done = page.locator("#progress .card", has_text="evaluate").locator("progress")
    before = float(done.get_attribute("value"))
    page.wait_for_function("before => [...document.querySelectorAll('#progress progress')].at(-1).value > before", arg=before)
    shot(page, "at-work")
    page.locator("#tab-runs").click()
    expect(page.locator(".state.running")).to_be_visible()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS)
    for part in (at_work,) if sys.argv[3:] == ["at-work"] else (desk, phone):
        part(browser)
    browser.close()
print("ok")
