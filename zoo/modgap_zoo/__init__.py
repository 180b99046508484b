"""Pretrained sources and labeled targets inside ordinary packages, as plug-ins of modgap."""
