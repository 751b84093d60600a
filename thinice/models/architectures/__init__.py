"""One file per family of architectures; importing this package fills the registry, one line a file."""

from thinice.models.architectures import cnn5 as cnn5
from thinice.models.architectures import digits_cnn as digits_cnn
from thinice.models.architectures import preact_resnet as preact_resnet
from thinice.models.architectures import resnet as resnet
from thinice.models.architectures import vgg as vgg
from thinice.models.architectures import wide_resnet as wide_resnet
