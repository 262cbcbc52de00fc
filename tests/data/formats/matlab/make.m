% Makes the files beside it, in GNU Octave 7.3: octave-cli make.m
% v73.mat is not its: h5py wrote a cell array of two rows, see written() in tests/datasets/test_matlab73.py.
segments = [1 2 3 4; 5 6 7 8];
save('-text', 'octave-text.mat', 'segments'); save('-binary', 'octave-binary.mat', 'segments');
save('-hdf5', 'octave-hdf5.mat', 'segments'); save('-zip', 'octave-zip.mat', 'segments');
save('-v4', 'v4.mat', 'segments'); save('-v6', 'v6.mat', 'segments'); save('-v7', 'v7.mat', 'segments');
% Octave 7.3 gives character matrices of 3 or 4 letters in several rows a length that is 4 bytes too long.
square = ['pq'; 'rs']; three = ['p'; 'q'; 'r']; four = ['p'; 'q'; 'r'; 's']; beside = {square, 'name', 5};
accents = ['aé'; 'bcd']; accent = 'é.jpg'; beyond = ['a' char([240 159 152 128]) 'b'];
variables = {'square', 'three', 'four', 'beside', 'accents', 'accent', 'beyond', 'segments'};
save('-v7', 'letters-v7.mat', variables{:}); save('-v6', 'letters-v6.mat', variables{:});
save('-v4', 'letters-v4.mat', 'square', 'three', 'four', 'accent', 'segments');
many = {square, three, 'name'}; save('-v7', 'many-v7.mat', 'many', 'segments');
% A workspace with all sorts of things before and behind what is wanted.
around = sparse(eye(3)); c = 3 + 2i; e = {};
wanted.name = 'a.jpg'; wanted.ax = [1 2 3 4]; wanted.extra = around;
save('-v7', 'workspace-v7.mat', 'around', 'c', 'e', 'wanted', 'segments');
save('-v6', 'workspace-v6.mat', 'around', 'c', 'e', 'wanted', 'segments');
