"""Codecs of pictures: one convolutional autoencoder with KL, VQ and FSQ bottlenecks, and pixels themselves."""
