// SystemC's library asks for this entry point; the program enters at main() and elaborates in its engines' processes.
extern "C" int sc_main(int, char**) { return 0; }
