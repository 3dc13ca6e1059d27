"""The flags of a training that takes seconds: all tests here use the same, so it compiles once."""

_SMALL = "--filters 4 --patch-size 16 --batch-size 4 --precision float32 --no-report --symmetries 1"
# Without a choice these would be measured on the images, which takes long to compile.
_CHOSEN = "--targets own --blind 0 --stride 1"
EPOCHS = "2"
TRAINING = f"{_SMALL} {_CHOSEN} --quiet".split()
