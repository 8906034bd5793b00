"""Other views of the training images, batched and on the device."""
