"""What knows nothing of features: linear algebra, threads of libraries, processes, files written all or nothing."""
