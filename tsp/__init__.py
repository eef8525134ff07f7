"""TSP and TAC: training and extraction, what runs in the pod."""
