"""Drives the page of `divvy serve` in headless Chromium: page.py URL FOLDER_FOR_SCREENSHOTS."""

import os
import sys

from playwright.sync_api import expect, sync_playwright

url, shots = sys.argv[1:3]
os.makedirs(shots, exist_ok=True)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]


def check(page):
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(url)

    # Ask, with the keyboard alone.
    expect(page.locator("#first")).to_have_value("two-stage/sd/big")
    page.locator("#first").select_option("two-stage/big/big")
    page.locator("#question").fill("Ann has 3 boxes of 12 pens and gives 7 away. How many are left?")
    page.keyboard.press("Control+Enter")
    pane = page.locator(".pane")
    expect(pane.locator(".answer")).to_have_text("The answer is: 29")
    expect(pane.locator(".steps li")).to_have_count(2)
    expect(pane.locator(".known").nth(1)).to_have_text("36 - 7 = 29")
    expect(pane.locator(".figures")).to_contain_text("tokens in")
    expect(pane.locator(".measured")).to_contain_text("on 4 test questions")
    page.screenshot(path=f"{shots}/ask.png", full_page=True)

    # Compare two, with markup in the question that must stay text.
    page.locator("#second").select_option("cot/big")
    page.locator("#question").fill("<img src=x onerror=alert(1)> How many?")
    page.locator("#send").click()
    expect(page.locator(".pane")).to_have_count(2)
    expect(page.locator(".pane .answer").nth(1)).to_contain_text("29")
    expect(page.locator("#send")).to_be_enabled()
    page.screenshot(path=f"{shots}/compare.png", full_page=True)

    # Browse rows, then the call behind one.
    page.locator("#tab-rows").click()
    expect(page.locator(".card").first).to_be_visible()
    page.locator("#rows-arm").select_option("cot/big")
    expect(page.locator("#rows-where")).to_have_text("1 to 4 of 4")
    page.locator("#rows-wrong").check()
    expect(page.locator(".card .right")).to_have_count(0)
    page.screenshot(path=f"{shots}/rows.png", full_page=True)
    page.locator(".card button").first.click()
    expect(page.locator("#call pre").first).to_be_visible()
    expect(page.locator("#calls tr").nth(1)).to_be_visible()
    page.screenshot(path=f"{shots}/calls.png", full_page=True)

    # Status and report.
    page.locator("#tab-calls").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("evaluate")
    page.screenshot(path=f"{shots}/status.png", full_page=True)
    page.locator("#tab-report").click()
    expect(page.frame_locator("#report").locator("body")).to_contain_text("cot/big")
    page.screenshot(path=f"{shots}/report.png", full_page=True)
    assert not problems, problems

    # An error is told in words.
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
    page.screenshot(path=f"{shots}/error.png", full_page=True)
    page.unroute("**/v1/chat/completions")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS)
    check(browser.new_page())
    # In the dark, on a phone: nothing sticks out.
    phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    phone.goto(url)
    expect(phone.locator("#first")).not_to_have_value("")
    phone.locator("#question").fill("How many are 3 boxes of 12 pens, " + "each of them quite long " * 20)
    phone.locator("#send").click()
    expect(phone.locator(".pane .answer")).to_contain_text("29")
    phone.screenshot(path=f"{shots}/phone.png", full_page=True)
    width = phone.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, width
    browser.close()
