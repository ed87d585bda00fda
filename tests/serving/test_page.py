"""The page in Chromium: asked as a person would, by mouse and by keyboard, on a desk and on a phone."""

import dataclasses
import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from suite.contracts.kinds import output_kind
from suite.contracts.signature import File, Output
from tests.serving.asking import Serving
from tests.serving.browser import DESK, PHONE, answer, chromium, show, tab
from tests.serving.conftest import png, tone


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def page(browser, server):
    with tab(browser, server) as made:
        yield made


def test_a_text_by_keyboard_alone(page, opened):
    show(page, "words")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the question"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    page.keyboard.type("a fine and moving film")
    page.keyboard.press("Control+Enter")
    made = opened["words"].predict(["a fine and moving film"])[0]
    assert answer(page).split("\n")[0] == made["label"]
    assert f"{100 * made['probability']:.1f} %" in answer(page)
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA", "the focus stays where it was"
    widths = page.eval_on_selector_all(".bar > i", "bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * share for share in made["top"].values()], abs=0.1)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.input_value("textarea").startswith("It was better")


def test_another_model_is_picked(page):
    show(page, "words")
    page.select_option("#model", "digits")
    page.wait_for_selector(".drop")
    assert page.inner_text("h1") == "digits" and page.title() == "digits · suite"
    assert "Puts pictures into classes" in page.inner_text("#about")
    page.reload()
    page.wait_for_selector(".drop")
    assert page.inner_text("h1") == "digits", "the address names it"


def test_a_picture_is_chosen_dropped_and_pasted(page, opened):
    show(page, "digits")
    assert page.is_hidden(".field > .name"), "the only input needs no name"
    label = opened["digits"].predict([png(0)])[0]["label"]
    page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": png(0)})
    page.wait_for_selector("figure img.tiny")
    page.click("#send")
    assert answer(page).split("\n")[0] == label
    shares = [float(share.split()[0]) for share in page.locator(".share").all_inner_texts()]
    assert len(shares) == 3 and shares == sorted(shares, reverse=True)
    page.click("#clear")
    assert page.is_hidden("figure") and page.inner_text("#answer") == "What the model says will appear here."
    for event, target in (("drop", ".drop"), ("paste", "body")):
        page.evaluate(
            """([event, target, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
            const made = event === "drop" ? new DragEvent(event, { dataTransfer: data, bubbles: true })
                                          : new ClipboardEvent(event, { clipboardData: data, bubbles: true });
            document.querySelector(target).dispatchEvent(made);
        }""",
            [event, target, list(png(0))],
        )
        page.wait_for_selector("figure:not([hidden]) img")
        page.click("#send")
        assert answer(page).split("\n")[0] == label
        page.click("#clear")


def test_a_picture_that_the_server_does_not_read_is_drawn_again(page):
    show(page, "digits")
    image = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(image, "GIF")
    page.set_input_files("input[type=file]", {"name": "a.gif", "mimeType": "image/gif", "buffer": image.getvalue()})
    page.wait_for_selector("figure img")
    assert "a.png" in page.inner_text("figcaption")
    page.click("#send")
    answer(page)


def stop_recording(page):
    """A recording ends by itself after the model's second, so there may be nothing left to stop on a slow machine."""
    page.evaluate("document.querySelector('button[aria-pressed=true]')?.click()")


def test_a_sound_is_chosen_and_recorded(page, opened):
    show(page, "sounds")
    page.set_input_files("input[type=file]", {"name": "a.wav", "mimeType": "audio/wav", "buffer": tone()})
    page.wait_for_selector("audio")
    page.click("#send")
    assert answer(page).split("\n")[0] == opened["sounds"].predict([tone()])[0]["label"]
    page.click("#clear")
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_selector("button[aria-pressed=true]")
    page.wait_for_timeout(700)
    stop_recording(page)
    page.wait_for_selector("audio")
    assert "recording.wav" in page.inner_text("figcaption")
    page.click("#send")  # the server reads no WebM, which is what browsers record
    answer(page)
    assert page.get_attribute("button[aria-pressed]", "aria-pressed") == "false"


def test_a_second_click_before_the_microphone_is_granted_starts_no_second_recorder(page):
    show(page, "sounds")
    page.evaluate("""() => {
        const devices = navigator.mediaDevices, granted = devices.getUserMedia.bind(devices);
        window.asked = 0;
        devices.getUserMedia = async (what) => {
            window.asked += 1;
            await new Promise((resolve) => setTimeout(resolve, 300));
            return granted(what);
        };
    }""")
    button = page.get_by_role("button", name="Record", exact=True)
    button.click()
    button.click()
    page.wait_for_selector("button[aria-pressed=true]")
    page.wait_for_timeout(500)
    assert page.evaluate("asked") == 1
    stop_recording(page)
    page.wait_for_selector("audio")
    button.click()
    page.wait_for_selector("button[aria-pressed=true]")
    page.wait_for_timeout(500)  # stopped before its first sound, a recording holds nothing that can be read
    stop_recording(page)
    page.wait_for_selector("audio")


def test_a_form_for_a_table(page, opened):
    show(page, "clicks")
    options = page.locator("select#input-shop option").all_inner_texts()
    assert options[0] == "not known" and sorted(options[1:]) == ["a", "b", "c"]
    page.fill("#input-price", "3.5")
    page.select_option("#input-shop", "a")
    page.fill("#input-tags", "x1, y2")
    page.click("#send")
    made = opened["clicks"].predict({"price": [3.5], "shop": ["a"], "tags": [["x1", "y2"]]})[0]
    assert answer(page).startswith(f"{100 * made['probability']:.1f} %")
    assert "Values that training had not, or too rarely" in answer(page)
    page.click("text=Fill in a typical record")
    assert page.input_value("#input-price") == "2.93" or float(page.input_value("#input-price")) > 0
    page.click("text=Another one")
    answer(page)


def test_errors_are_shown_plainly(page):
    show(page, "clicks")
    page.click("#send")
    assert page.inner_text("[role=alert]:visible") == "Fill in at least one column."
    show(page, "words")
    page.click("#send")
    assert page.inner_text("[role=alert]:visible") == "Type a text first."
    page.evaluate("document.querySelector('textarea').value = 'x'.repeat(20001)")
    page.click("#send")
    page.wait_for_selector("#error:has-text('characters')")
    assert page.inner_text("#error") == "Review has 20,001 characters, of at most 1,600."
    show(page, "digits")
    page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("figure:not([hidden])")
    page.click("#send")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error").startswith("The file is no image that is read here")


def test_no_old_answer_stands_beside_a_pending_question_or_an_error(page):
    held = []
    show(page, "words")

    def ask_and_see_nothing():
        page.keyboard.press("Control+Enter")  # the button is disabled while an answer is awaited
        assert page.locator(".answered").count() == 0
        page.wait_for_timeout(100)

    def answered():
        page.unroute("**/*:predict")
        page.fill("textarea", "a fine film")
        page.click("#send")
        answer(page)

    answered()
    page.route("**/*:predict", lambda route: held.append(route))
    ask_and_see_nothing()
    assert page.inner_text("#answer") == "Waiting for the answer …"
    held.pop().abort()  # as where the server has gone
    page.wait_for_selector("#error:not([hidden])")
    assert page.locator(".answered").count() == 0 and page.get_attribute("#answer", "aria-busy") == "false"
    answered()
    assert page.is_hidden("#error"), "nor an old error beside an answer"
    page.fill("textarea", "")
    ask_and_see_nothing()
    assert page.inner_text("#error") == "Type a text first."
    answered()
    page.route("**/*:predict", lambda route: held.append(route))
    ask_and_see_nothing()
    page.fill("textarea", "")
    ask_and_see_nothing()
    late = held.pop()
    late.fulfill(json={"model": "words", "version": "0" * 16, "answers": [{"label": "late"}]})
    page.wait_for_timeout(200)
    assert page.locator(".answered").count() == 0 and page.is_visible("#error"), "a late answer is dropped"


def test_no_old_answer_stands_beside_another_picture(page):
    show(page, "digits")
    for name, content in (("b.png", png(0)), ("c.tiff", b"no picture")):
        page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": png(0)})
        page.wait_for_selector("figure img")
        page.click("#send")
        answer(page)
        page.set_input_files("input[type=file]", {"name": name, "mimeType": "image/x", "buffer": content})
        assert page.locator(".answered").count() == 0


def test_progress_of_compilation_is_said(page, server):
    said = re.compile(r" words: (compiling 1 of \d+|this version was tried before on this machine)$")
    assert any(said.search(line.strip()) for line in server.log)
    warming = {"name": "reviews", "ready": False, "warming": {"compiling": 7, "of": 30}}
    page.route("**/v1/models", lambda route: route.fulfill(json={"models": [warming]}))
    page.goto("/")
    page.wait_for_selector("#status:has-text('reviews: compiling 7 of 30 …')")
    page.unroute("**/v1/models")
    page.wait_for_selector("#desk:not([hidden])")
    assert page.is_hidden("#status")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_api_page(page, server, size):
    """Made of the server's own description, and of nothing from outside."""
    page.set_viewport_size(size)
    show(page, "words")
    page.click("text=Ask from a program")
    page.click("text=the API page")
    page.wait_for_selector(".operation")
    _, described = server.get("/openapi.json")
    paths = [(method.upper(), path) for path, methods in described["paths"].items() for method in methods]
    shown = page.locator(".operation > summary").all_inner_texts()
    assert [tuple(line.split()[:2]) for line in shown] == paths
    words = page.locator(".operation", has_text="/v1/models/words:predict").last
    said = words.inner_text()
    assert "review string, at most 1,600 characters" in said and 'one of "bad", "good"' in said
    assert "422" in said and "a record lies so far" in said
    assert f"curl {server.url}/v1/models/words:predict" in words.locator("pre").last.inner_text()
    example = json.loads(words.locator("pre").first.inner_text())
    assert server.post("words", example)[0] == 200
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("h1").count() == 1 and page.locator("main").count() == 1


def test_the_command_asks_the_same(page, server):
    show(page, "words")
    page.fill("textarea", "it's fine")
    page.click("text=Ask from a program")
    command = page.inner_text("#curl")
    assert command.startswith(f"curl {server.url}/v1/models/words:predict") and "'\\''s fine" in command
    page.click("text=About this model")
    assert "What it does" in page.inner_text("#card") and page.locator("#card table").count() >= 1


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_is_cut_off_and_all_has_a_name(page, size):
    """No sideways scrolling; every control is named for those who can't see it, and large enough for a thumb."""
    page.set_viewport_size(size)
    for name in ("words", "digits", "sounds", "clicks"):
        show(page, name)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, select, textarea, audio")]
            .filter((each) => each.offsetParent)
            .filter((each) => !(each.labels?.length || each.getAttribute("aria-label") || each.textContent.trim()))
            .map((each) => each.outerHTML)""")
        assert unnamed == []
        small = page.evaluate("""() => [...document.querySelectorAll("button, select, textarea, .drop")]
            .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 32)
            .map((each) => each.outerHTML)""")
        assert small == []
        assert page.locator("h1").count() == 1 and page.locator("main").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page, scheme):
    """AA: 4.5 to 1 for text, 3 to 1 for the edges of controls."""
    page.emulate_media(color_scheme=scheme)
    show(page, "words")
    names = ("ground", "panel", "ink", "muted", "edge", "accent", "on-accent", "wash", "alarm", "alarm-wash")
    colour = {
        name: page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')").strip()
        for name in names
    }
    for text, under in (
        ("ink", "ground"),
        ("ink", "panel"),
        ("ink", "wash"),
        ("muted", "ground"),
        ("muted", "panel"),
        ("accent", "ground"),
        ("on-accent", "accent"),
        ("alarm", "alarm-wash"),
        ("ink", "alarm-wash"),
        ("muted", "wash"),
    ):
        assert contrast(colour[text], colour[under]) >= 4.5, (text, under)
    assert contrast(colour["edge"], colour["panel"]) >= 3 and contrast(colour["edge"], colour["ground"]) >= 3


def contrast(one, other):
    def luminance(colour):
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_no_motion_where_none_is_wanted(page):
    page.emulate_media(reduced_motion="reduce")
    show(page, "words")
    page.click("#examples button")
    answer(page)
    assert page.eval_on_selector(".bar > i", "bar => getComputedStyle(bar).transitionProperty") == "none"


def test_answers_of_other_kinds(page):
    """Words, ranked items and boxes, as models of such tasks will answer."""
    show(page, "digits")
    page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": png(0, (40, 40))})
    page.wait_for_selector("figure img")
    script = """async ([answer, output]) => {
        const { answerOf } = await import("/page/answers.js");
        const context = { outputs: [output], given: { text: "Once" }, picture: document.querySelector("figure") };
        document.querySelector("#answer").replaceChildren(answerOf(answer, context));
        return document.querySelector("#answer").innerText;
    }"""

    def draw(value, kind, **about):
        output = Output(name="value", kind=kind, **about)
        described = {**dataclasses.asdict(output), "widget": output_kind(kind).shown_by(output)}
        return page.evaluate(script, [{"value": value}, described])

    assert draw(" upon a time", "text", after="text") == "Once upon a time"
    assert draw("", "text", empty="Nothing was heard.") == "Nothing was heard."
    assert draw("<b>ein</b> Haus", "text") == "<b>ein</b> Haus", "no markup comes of it"
    assert "40.0 %" in draw(0.4, "number", low=0, high=1)
    assert draw(-1234567.5, "number") == "Value: -1,234,568" and draw(0.25, "number") == "Value: 0.25"
    assert draw(["Drama", "War"], "list").split() == ["Drama", "War"]
    assert draw([], "list") == "None is likely enough."
    assert "label: On" in draw([{"start": 0, "end": 2, "label": "label"}], "spans")
    assert "numbers" in draw([0.5] * 9, "vector").lower() and "1.500" in draw([0.5] * 9, "vector")
    ranked = draw([{"item": "a", "title": "Alien", "score": 0.91}, {"item": "Brazil", "score": 0.4}], "ranking")
    assert [line.strip() for line in ranked.split("\n") if line.strip()] == ["0.910", "Alien", "0.400", "Brazil"] or (
        "Alien" in ranked and "0.910" in ranked
    )
    draw(File("image/png", png(0, (40, 40))).to_json(), "image")
    page.wait_for_function("document.querySelector('#answer img').naturalWidth === 40")
    draw(File("audio/wav", tone(rate=8000)).to_json(), "audio")  # Chromium plays none below 3 kHz
    until = time.monotonic() + 15  # by hand: the page's policy lets no test put a script into it
    while not page.evaluate("() => document.querySelector('#answer audio').readyState > 0"):
        assert time.monotonic() < until, page.evaluate("() => document.querySelector('#answer audio').error?.message")
        page.wait_for_timeout(50)
    assert "cannot be shown" in draw({"media_type": "text/html", "data": "PGI+"}, "image")
    boxes = draw([{"label": "cat", "probability": 0.8, "box": [4, 8, 20, 30]}], "boxes")
    assert "cat" in boxes and "80.0 %" in boxes
    assert page.get_attribute("figure svg", "viewBox") == "0 0 40 40"
    sides = [page.get_attribute("figure rect", side) for side in ("x", "y", "width", "height")]
    assert sides == ["4", "8", "16", "22"]
    draw(File("image/png", png(0, (40, 40))).to_json(), "mask", choices=("background", "cat"))
    places = [page.locator(f"figure .picture img{which}").bounding_box() for which in (":not(.mask)", ".mask")]
    assert places[0]["width"] - places[1]["width"] <= 2 and places[0]["x"] <= places[1]["x"]


def test_columns_of_tables_are_not_cut_on_a_phone(page):
    page.set_viewport_size(PHONE)
    for name in ("words", "clicks"):
        show(page, name)
        page.eval_on_selector_all("details", "all => all.forEach((each) => { each.open = true; })")
        page.wait_for_selector("#card table")
        cut = """() => [...document.querySelectorAll(".scroll, pre")]
            .filter((each) => each.offsetParent && each.scrollWidth > each.clientWidth).map((each) => each.innerText)"""
        assert page.evaluate(cut) == []


def test_a_token_is_asked_for(browser, bundles):
    with Serving(bundles["digits"], "--sizes", "1", SUITE_TOKEN="secret-7") as server:
        context = browser.new_context(base_url=server.url)
        page = context.new_page()
        page.goto("/")
        page.wait_for_selector("#key:not([hidden])")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=That token was not accepted.")
        page.fill("#token", "secret-7")
        page.click("text=Continue")
        page.wait_for_selector("#desk:not([hidden])")
        assert page.is_hidden("#key") and page.inner_text("h1") == "digits" and page.is_hidden("#picker")
        page.goto("/docs")
        page.wait_for_selector(".operation")
        assert "Authorization: Bearer $TOKEN" in page.locator(".operation pre").last.inner_text()
        context.close()


def test_a_program_is_picked_and_a_seed_repeats_its_answer(browser, tmp_path):
    import suite
    from tests import two_programs
    from tests.untrained import untrained

    run = untrained(two_programs.experiment(), tmp_path / "run")
    bundle = suite.export(run, tmp_path / "two", name="two", platforms=("cpu",), allow=("tests",))
    with Serving(bundle.folder, "--allow", "tests", "--sizes", "1") as server:
        context = browser.new_context(viewport=DESK, base_url=server.url)
        page = context.new_page()
        page.set_default_timeout(15_000)
        show(page, "two")
        assert not page.is_visible("#seed"), "what draws nothing asks for no seed"
        page.select_option("#program", "draw")
        assert page.evaluate("location.hash") == "#two:draw"
        page.fill("#fields input", "1, 2, 3")
        page.fill("#seed", "5")
        assert '"seed":5' in page.text_content("#curl")
        page.click("#send")
        (expected,) = bundle.predict([[1, 2, 3]], program="draw", seed=5)
        page.wait_for_selector(f"#answer:has-text('{expected['more']}')")
        assert "seed 5" in page.inner_text("#answer .by")
        page.reload()
        page.wait_for_selector("#seed")
        assert page.input_value("#program") == "draw" and page.input_value("#seed") == ""
        page.fill("#fields input", "1, 2, 3")
        page.click("#send")
        page.wait_for_selector("#answer .by:has-text('seed')")
        page.select_option("#program", "predict")
        assert page.evaluate("location.hash") == "#two" and not page.is_visible("#seed")
        context.close()
