"""Sources in ONNX files, with a description of their input and output."""
