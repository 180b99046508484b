"""Labels and arrays as users have them, and the distributions of classes that labels stand for."""
