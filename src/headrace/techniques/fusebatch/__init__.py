"""FuseBatch: K images in one forward pass of a network (FB-UNet, FB-AE) and timestep-fusion scheduling (TFS)."""
