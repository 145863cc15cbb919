"""`hf-mixup playground`: mix two rows by hand, and see the predictions of the model between them.

stage        two rows, mixed by the engine as training mixes them
show         rows and their mixture as HTML; charts draws the curves
controller   the answers of the page, without gradio
app          pickers, sliders and images, the only place that knows gradio
run          from settings to a running page
"""
