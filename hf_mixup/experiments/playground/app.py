"""The page: pickers, sliders and images, wired to a stage. The only place that knows gradio."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hf_mixup.experiments.playground.charts import OWN, PARTNER
from hf_mixup.experiments.playground.controller import Page
from hf_mixup.methods import METHODS

_LAM = "Share of the own sample: its weight in a blend, what lies outside the box in a cut; at 0 all is the partner."
_MOST_ALPHA = 4.0
_COLUMN, _HALF = 260, 140  # pixels that a column has at least; two halves stand side by side on a telephone
_CLASSES = 3  # that the soft label and the prediction list
CSS = """
.image { width: 100%; max-width: 18rem; image-rendering: pixelated; display: block; margin: 0 auto; }
.chart { width: 100%; max-width: 34rem; display: block; margin: 0 auto; background: white; border-radius: 6px; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem; }
.sides > div { min-width: 0; }
.tokens { line-height: 1.9; max-height: 16rem; overflow-y: auto; overflow-wrap: anywhere; }
.token { padding: 0.1rem 0.25rem; border-radius: 4px; font-family: monospace; font-size: 0.85rem; }
audio { width: 100%; }
#own input, #partner input { text-overflow: ellipsis; margin-right: 1.4rem; }
"""


def build(page: Page) -> gr.Blocks:
    """Return the page, to be served by `launch`."""
    choices = [(page.view.choice(row), row) for row in page.rows]
    alpha = page.stage.alpha or 1.0
    with gr.Blocks(title="hf-mixup playground", analytics_enabled=False) as demo:
        gr.Markdown(f"# hf-mixup playground\n{page.heading}")
        draw = gr.State(0)
        with gr.Row():  # the partner on the left, where lam is 0
            partner = _picker(page, "Partner", page.first[1], choices, PARTNER)
            own = _picker(page, "Own sample", page.first[0], choices, OWN)
            with gr.Column(min_width=_COLUMN):
                titles = [(METHODS[name].title, name) for name in page.methods]
                method = gr.Dropdown(titles, value=page.methods[0], label="Method", elem_id="method")
                mixed, words = gr.HTML(elem_id="mixed"), gr.HTML(elem_id="said")
                other = gr.Button("Two other rows", size="sm", elem_id="other")
        lam = gr.Slider(
            0,
            1,
            0.5,
            step=0.01,
            label="lam",
            info=_LAM,
            elem_id="lam",
        )
        with gr.Row():
            with gr.Column(min_width=_COLUMN):
                bars: dict[str, Any] = {"num_top_classes": _CLASSES, "show_heading": False}
                target = gr.Label(label="Soft label", elem_id="target", **bars)
                predicted = gr.Label(label="Prediction", elem_id="prediction", **bars)
                if page.note:
                    gr.Markdown(page.note, elem_id="note")
            with gr.Column(min_width=_COLUMN, scale=2):
                way, off = gr.HTML(elem_id="way"), gr.HTML(elem_id="off")
        with gr.Row():
            with gr.Column(min_width=_COLUMN):
                info, most = "training draws lam from Beta(alpha, alpha)", max(_MOST_ALPHA, alpha)
                knob = gr.Slider(0.05, most, alpha, step=0.05, label="alpha", info=info, elem_id="alpha")
                drawing = gr.Button("Draw lam", variant="primary", elem_id="draw")
            with gr.Column(min_width=_COLUMN, scale=2):
                shape = gr.HTML(page.density(alpha, 0.5), elem_id="density")
        picks: list[Any] = [own, partner]
        asked, shown = [*picks, method, lam, draw], [mixed, words, target, predicted, way, off]
        # A dragged slider counts where it stops.
        quiet: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
        gr.on([demo.load, *(each.change for each in asked)], page.look, asked, shown, api_name="look", **quiet)
        gr.on([knob.change, lam.change], page.density, [knob, lam], shape, api_name="density", **quiet)
        drawing.click(page.drawn, [knob, draw], [lam, draw], api_name="draw", show_progress="hidden")
        other.click(page.another, None, picks, api_name="another", show_progress="hidden")
    return demo


def _picker(page: Page, title: str, first: int, choices: list[tuple[str, int]], colour: str) -> gr.Dropdown:
    def row(index: int) -> str:
        return page.view.row(index, colour)

    name = title.split()[0].lower()
    with gr.Column(min_width=_HALF):
        picked = gr.Dropdown(choices, value=first, label=title, elem_id=name)
        shown = gr.HTML(row(first), elem_id=f"{name}-row")
    picked.change(row, picked, shown, show_progress="hidden", api_name=f"{name}_row")
    return picked


def launch(demo: gr.Blocks, port: int | None, block: bool = True) -> str:
    """Serve the page on this machine alone, and return its address; `block` waits for Ctrl-C, which ends it."""
    _, address, _ = demo.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        ssr_mode=False,
        footer_links=[],
        css=CSS,
        theme=gr.themes.Default(),
    )
    if block:
        try:
            print(f"the playground is at {address} (Ctrl-C ends it)", flush=True)
            demo.block_thread()
        except KeyboardInterrupt:  # one that gradio did not take, before it waits or while it closes
            pass
        finally:
            demo.close(verbose=False)
    return address
