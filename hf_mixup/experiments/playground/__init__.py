"""`hf-mixup playground`: mix two rows by hand, and see what the model makes of the way between them.

stage.py    two rows, mixed by the engine as training mixes them
show.py     what is shown of it, as HTML; charts.py draws the curves
page.py     what the page shows and does
app.py      its pickers and sliders, the only place that knows gradio
main.py     from settings to a running page
"""
