"""From a picture to an answer, whatever file or registry the model comes from."""
