"""The latent diffusion model: autoencoder, denoiser, its linear prior, samplers, and the checkpoint that holds them."""
