"""Datasets x methods x protocol -> figures: `hmrkit eval`.

How it goes: `predicting` (the chain) or `results` (a file) says what a method makes of the people of a sequence;
`poses` reads joints off predicted and true `bodies`; `scoring`, `motion` and `image` turn them into a value per frame
and metric; `score_files` keeps these; `runner` goes through all sequences and methods; `report` makes figures of them
and `tables`, `worst` and `submission` files; `occluded` does all this with joints covered.
"""
