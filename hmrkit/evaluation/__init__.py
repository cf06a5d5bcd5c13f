"""Datasets x methods x protocol -> figures: `hmrkit eval`.

`bodies`: the bodies and named points that a protocol compares. `predicting`: what a method says of the people of a
sequence. `results`: the same, made elsewhere. `scoring`, `motion`: a value per frame and metric. `runner`: all
sequences of a dataset, resumable. `report`: tables and pictures. `submission`: the 3DPW challenge's files.
"""
