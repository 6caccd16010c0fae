"""What each number means, with its bound: pure functions of float64 arrays and floats."""
