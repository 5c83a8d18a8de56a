# headlens/cmake: installing; find_package(headlens) then gives headlens::headlens.
