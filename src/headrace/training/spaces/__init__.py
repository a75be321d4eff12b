"""Where diffusion happens: on pixels, or on the latents of a frozen autoencoder."""
