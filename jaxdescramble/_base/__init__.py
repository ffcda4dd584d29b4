"""What every room stands on: arguments, errors, files, LAPACK, decompositions, products, transforms. Not public."""
