"""What every room uses: checks of arguments, errors, files, LAPACK, decompositions, products, transforms. Private."""
