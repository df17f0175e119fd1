"""The expressions of faces in photographs and videos: find the files, cut out the faces, classify and draw them."""
