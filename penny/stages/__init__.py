"""Layer 1: the steps that items pass through, and the stores in which services meet."""
