#include "check.h"

int main(int argc, char** argv) { return moe::test::run_tests(argc, argv); }
