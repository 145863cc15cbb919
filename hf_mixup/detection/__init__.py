"""Object detection: boxes with weights, and the set losses of transformers that read them.

loss    transformers' own losses of matched queries, with a weight for each box
batch   pictures mixed, their boxes put together
"""
