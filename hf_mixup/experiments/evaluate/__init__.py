"""`hf-mixup evaluate`: how a trained model stands up to shift, noise, attacks and rows of another kind.

arguments     what to evaluate
checkpoint    a saved model, its task and its labels
rows          rows -> logits, clean or under attack
images      corruptions, noise and strange images, as the model sees them
texts         typos, lost words and strange texts
views         "crops:0.9" -> views of test-time augmentation
disturbances  what the suites do to the rows
parts         one part after the other, kept as it is finished
store         finished parts on disk
run           checks, parts, results, images and the model card
comparison    the runs that a comparison left
runs          all of these: results, tables and images over methods and seeds
"""
