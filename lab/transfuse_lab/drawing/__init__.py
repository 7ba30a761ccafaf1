"""Pictures that commands write: grids of samples, pairs of real and drawn, layouts of masks.

Takes arrays and gives Pillow images; no run, model or data set is opened here.
"""
