"""The latent diffusion model: autoencoder, denoiser (UNet and linear prior), samplers, and the checkpoint file."""
