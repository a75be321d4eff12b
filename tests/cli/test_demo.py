import json

from PIL import Image

from headrace.cli.contact_sheet import Pair, contact_sheet


def test_demo_writes_every_picture_a_sheet_and_the_figures(headrace, tiny_model, tmp_path):
    run = headrace("demo", "--quick", "--model", tiny_model("sd1"), "--out", tmp_path)
    assert run.status == 0, run.err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["max_pixel_difference"] <= 3
    assert figures["pixel_share_within_1"] >= 0.999
    assert figures["speedup_vs_sequential"] > 0
    assert len(list(tmp_path.glob("*-diffusers.png"))) == len(list(tmp_path.glob("*-headrace.png"))) == 6
    sheet = Image.open(tmp_path / "contact-sheet.png")
    assert sheet.width > 6 * 2 * 96
    assert str(tmp_path / "contact-sheet.png") in "".join(run.out.split("\n"))


def test_demo_needs_a_model_that_takes_prompts(headrace, tiny_model, tmp_path):
    run = headrace("demo", "--quick", "--model", tiny_model("ddim"), "--out", tmp_path)
    assert run.status == 1
    assert "takes no prompts" in run.err
    assert not list(tmp_path.iterdir())


def test_contact_sheet_shows_both_pictures_of_every_pair():
    red, blue = Image.new("RGB", (64, 64), (250, 0, 0)), Image.new("RGB", (32, 64), (0, 0, 250))
    sheet = contact_sheet([Pair(red, blue, "a title", "and more")] * 5, "heading", columns=3)
    colours = {colour: count for count, colour in sheet.getcolors(1 << 24)}
    assert colours[(250, 0, 0)] == 5 * 96 * 96
    assert colours[(0, 0, 250)] == 5 * 48 * 96
