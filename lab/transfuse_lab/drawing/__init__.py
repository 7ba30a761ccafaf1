"""Pictures that commands write: grids of samples, masks over layouts."""
