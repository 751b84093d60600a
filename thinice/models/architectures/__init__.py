"""One file per family of architectures; importing this package fills the registry, one line a file."""

from thinice.models.architectures import digits_cnn as digits_cnn
