"""What an autoencoder is trained by: named terms, features of a network trained here, a patch discriminator."""
